// One service: who could serve it, how each fares, and what became of its streams.

import { useEffect, useState } from "preact/hooks";
import { Chart } from "./chart";
import { bytes, clock, count, flattened, millis } from "./format";
import { watchDetail } from "./live";
import { type Everything, type ServiceDetail, type Severity, serviceSeverity } from "./model";
import { Facts, State, Table } from "./parts";

const HEALTH: Record<string, Severity> = { healthy: 0, unused: 0, probing: 1, failing: 1, ejected: 2, down: 2 };

function Policy({ of, name }: { of: unknown; name: string }) {
  const lines = flattened(of);
  return (
    <details>
      <summary>Policy of {name}</summary>
      {lines.length === 0 ? <p class="empty">Nothing but defaults.</p> : <Facts of={lines} />}
    </details>
  );
}

export function ServicePage({ name, all }: { name: string; all: Everything }) {
  const [detail, tell] = useState<ServiceDetail | null>(null);
  useEffect(() => watchDetail("service", name, (detail) => tell(detail as ServiceDetail)), [name]);
  const ports = Object.entries(all.services).filter(([, row]) => row.service === name);
  if (ports.length === 0) {
    return <><h1>{name}</h1><p class="empty">This cluster neither imports nor exports it. <a href="#/services">All services</a></p></>;
  }
  return (
    <>
      <p class="crumbs"><a href="#/services">Services</a></p>
      <h1>{name}</h1>
      {ports.map(([port, row]) => {
        const history = detail?.histories[port];
        const severity = serviceSeverity(row);
        return (
          <section key={port}>
            <h2>{port} <State word={row.message ?? (severity ? "degraded" : "well")} severity={severity} /></h2>
            <Facts
              of={[
                ["Clients connect to", row.listen.join(", ") || "not imported"],
                ["Exported", row.endpoints ? `${row.endpoints[0]} of ${row.endpoints[1]} endpoints serve` : "no"],
                ["Streams", count(row.rates.active)],
                ["Begun/s", count(row.rates.opened_s)],
                ["Errors/s", count(row.rates.failed_s)],
                ["p50", millis(row.rates.p50_ms)],
                ["p99", millis(row.rates.p99_ms)],
              ]}
            />
            {history && (
              <div class="charts">
                <Chart title="Time to first byte" format={millis} lines={[{ name: "p50", values: history.p50_ms }, { name: "p99", values: history.p99_ms }]} />
                <Chart title="Streams a second" format={count} lines={[{ name: "begun", values: history.opened_s }, { name: "errors", values: history.failed_s }]} />
              </div>
            )}
          </section>
        );
      })}
      {detail ? <Details detail={detail} /> : <p class="empty">Asking for details…</p>}
    </>
  );
}

function Details({ detail }: { detail: ServiceDetail }) {
  const { imports, exports } = detail.trace;
  return (
    <>
      {imports.map((of) => (
        <section key={of.listen}>
          <h2>Clusters for {of.listen}</h2>
          <Table
            label={`Clusters for ${of.listen}`}
            heads={["Cluster", "State", { number: "Ready" }, { number: "Healthy" }, { number: "Round trip" }, { number: "Share now" }, { number: "Of 100 streams" }]}
            rows={of.clusters.map((cluster) => [
              cluster.here ? `${cluster.cluster} (here)` : <a href={`#/link/${cluster.cluster}`}>{cluster.cluster}</a>,
              <State word={cluster.message ?? "serves"} severity={cluster.message ? 2 : cluster.part < 1 ? 1 : 0} />,
              cluster.ready, cluster.healthy ?? "–", millis(cluster.rtt_ms), `${Math.round(cluster.part * 100)} %`, cluster.percent,
            ])}
            empty="No cluster has it."
          />
          <p class="note">Affinity {of.affinity}{of.sticky ? "; clients stay where they are" : ""}.</p>
          <Policy of={of.policy} name={`the import at ${of.listen}`} />
        </section>
      ))}
      {exports.map((of) => (
        <section key={of.name}>
          <h2>Endpoints of {of.name}</h2>
          <Table
            label={`Endpoints of ${of.name}`}
            heads={["Endpoint", "State", { number: "In flight" }, { number: "Connect" }, { number: "Answer" }, { number: "Failures" }, { number: "Resets" }, { number: "Of 100 streams" }]}
            rows={of.endpoints.map((endpoint) => {
              const back = endpoint.ejected_ms ? `, back in ${millis(endpoint.ejected_ms)}` : "";
              const why = endpoint.message ? `: ${endpoint.message}` : "";
              return [
                endpoint.address, <State word={`${endpoint.health}${why}${back}`} severity={HEALTH[endpoint.health] ?? 1} />,
                endpoint.inflight, millis(endpoint.connect_ms), millis(endpoint.answer_ms), endpoint.failures, endpoint.resets, endpoint.percent,
              ];
            })}
            empty="No endpoint is ready."
          />
          <Policy of={of.policy} name={of.name} />
        </section>
      ))}
      <section>
        <h2>Last streams</h2>
        <Table
          label="Last streams"
          heads={["Ended", "Direction", "Peer", "Client", "Endpoint", { number: "Sent" }, { number: "Received" }, { number: "First byte" }, { number: "Lasted" }, "Closed", "Policy"]}
          rows={[...detail.records].reverse().map((of) => [
            clock(Date.parse(of.time) + of.duration_ms), of.direction, of.peer ?? "–", of.client ?? "–", of.endpoint ?? "–", bytes(of.bytes_up), bytes(of.bytes_down),
            millis(of.first_byte_ms), millis(of.duration_ms), of.closed, of.policy ?? "–",
          ])}
          empty="No stream that began since this page was opened has ended."
        />
      </section>
    </>
  );
}
