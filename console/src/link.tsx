// One link: the ways to a cluster, and what became of them.

import { useEffect, useState } from "preact/hooks";
import { Chart } from "./chart";
import { clock, millis, perSecond, seconds, until } from "./format";
import { watchDetail } from "./live";
import { type Everything, type LinkDetail, type LinkRow, linkSeverity, linkWord, type Severity } from "./model";
import { Facts, State, Table } from "./parts";

const HEALTH: Record<string, Severity> = { live: 0, draining: 1, unresponsive: 2, up: 0, "not needed": 0, dialling: 1, down: 2 };

function facts(link: LinkRow, now: number): [string, string][] {
  const loss = (percent: number | null) => (percent === null ? "not measured" : `${percent} %`);
  return [
    ["Transport", link.chosen ?? link.transport ?? "–"],
    ["Why", link.chosen_because ?? "–"],
    ["Path", link.via ? `through ${link.via}` : link.tunnels > 0 ? "direct" : "–"],
    ["Direction", link.direction ?? "–"],
    ["Round trip", millis(link.rtt_ms)],
    ["Out", perSecond(link.rates.out_s)],
    ["In", perSecond(link.rates.back_s)],
    ["Lost, out and in", `${loss(link.loss_out_percent)}, ${loss(link.loss_in_percent)}`],
    ["Streams, out and in", `${link.streams_out}, ${link.streams_in}`],
    ["Gateways", `${link.gateways.reached} of ${link.gateways.known} reached`],
    ["Certificate ends", until(link.cert_expiry, now)],
    ["Exports heard", link.sync_age_seconds === null ? "–" : `${seconds(link.sync_age_seconds)} ago`],
  ];
}

export function LinkPage({ cluster, all, now }: { cluster: string; all: Everything; now: number }) {
  const [detail, tell] = useState<LinkDetail | null>(null);
  useEffect(() => watchDetail("link", cluster, (detail) => tell(detail as LinkDetail)), [cluster]);
  const link = all.links[cluster];
  if (!link) return <><h1>{cluster}</h1><p class="empty">This cluster is not linked with it. <a href="#/">All links</a></p></>;
  return (
    <>
      <p class="crumbs"><a href="#/">Links</a></p>
      <h1>{cluster} <State word={linkWord(link)} severity={linkSeverity(link)} /></h1>
      {link.message && <p class="message">{link.message}</p>}
      <Facts of={facts(link, now)} />
      {detail ? <Details detail={detail} link={link} now={now} /> : <p class="empty">Asking for details…</p>}
    </>
  );
}

function Details({ detail, link, now }: { detail: LinkDetail; link: LinkRow; now: number }) {
  const { history, handshakes } = detail;
  const reasons = (of: Record<string, number>) => Object.entries(of).map(([why, n]) => `${why} ${n}`).join(", ") || "none";
  return (
    <>
      {history && (
        <div class="charts">
          <Chart title="Round trip" format={millis} lines={[{ name: "round trip", values: history.rtt_ms }]} />
          <Chart title="Throughput" format={perSecond} lines={[{ name: "out", values: history.out_s }, { name: "in", values: history.back_s }]} />
        </div>
      )}
      <section>
        <h2>Path history</h2>
        <Table
          label="Path history"
          heads={["At", "State", "Transport", "Path", { number: "Gateways" }, "Message"]}
          rows={[...(history?.changes ?? [])].reverse().map((change) => [
            clock(change.at_ms), <State word={change.state} severity={change.state === "up" ? 0 : 2} />, change.chosen ?? "–",
            change.via ? `through ${change.via}` : change.chosen ? "direct" : "–", change.gateways, change.message ?? "",
          ])}
          empty="Nothing has been noted yet."
        />
        {detail.breaks.map((of) => <p class="note" key={of.core}>Core {of.core}: {of.times} tunnels broke within ten minutes, the last {seconds(of.ago_s)} ago: {of.why}</p>)}
      </section>
      <section>
        <h2>Tunnels</h2>
        <Table
          label="Tunnels"
          heads={["Core", "Transport", "State", "Direction", "Address", "Gateway", "Through", { number: "Round trip" }, { number: "Out" }, { number: "In" }, { number: "Certificate" }]}
          rows={detail.tunnels.map((of) => [
            of.core, of.transport, <State word={of.health} severity={HEALTH[of.health] ?? 1} />, of.direction, of.address ?? "–", of.gateway ?? "–", of.via ?? "–",
            millis(of.rtt_ms), of.streams_out, of.streams_in, until(of.cert_expiry, now),
          ])}
          empty="There is none."
        />
      </section>
      <section>
        <h2>Dialling</h2>
        <Table
          label="Dialling"
          heads={["Core", "Address", "State", { number: "For" }, "Last error"]}
          rows={detail.dials.map((of) => [
            of.core, of.address ?? "through a relay", <State word={of.state} severity={HEALTH[of.state] ?? 1} />, seconds(of.since_s), of.error ?? "",
          ])}
          empty={`This gateway does not dial ${link.cluster}: it is dialled.`}
        />
        {link.gateways.addresses.some((of) => of.message) && (
          <ul class="notices">{link.gateways.addresses.filter((of) => of.message).map((of) => <li key={of.address}>{of.address}: {of.message}</li>)}</ul>
        )}
      </section>
      <section>
        <h2>Handshakes of this gateway, all links together</h2>
        <Facts
          of={[
            ["Succeeded, dialled", handshakes.dialled],
            ["Succeeded, accepted", handshakes.accepted],
            ["Refused", reasons(handshakes.refused)],
            ["Dialling failed", reasons(handshakes.dial_failures)],
          ]}
        />
      </section>
    </>
  );
}
