// The map, and the same as a table: what is broken first.

import { millis, perSecond, seconds, until } from "./format";
import { Map } from "./map";
import { type Everything, type LinkRow, linkSeverity, linkWord } from "./model";
import { State } from "./parts";
import { type Column, VirtualTable } from "./virtual";

function columns(now: number): Column<LinkRow>[] {
  return [
    { name: "State", width: "9.8rem", cell: (link) => <State word={linkWord(link)} severity={linkSeverity(link)} />, by: (link) => -linkSeverity(link) },
    { name: "Cluster", width: "minmax(8.5rem, 1fr)", cell: (link) => <a href={`#/link/${link.cluster}`}>{link.cluster}</a>, by: (link) => link.cluster },
    { name: "Transport", width: "7.5rem", cell: (link) => way(link), by: (link) => way(link) },
    { name: "Direction", width: "6.6rem", cell: (link) => link.direction ?? "–", by: (link) => link.direction ?? "" },
    { name: "Round trip", width: "7.2rem", number: true, cell: (link) => millis(link.rtt_ms), by: (link) => link.rtt_ms ?? -1 },
    { name: "Out", width: "6rem", number: true, cell: (link) => perSecond(link.rates.out_s), by: (link) => link.rates.out_s },
    { name: "In", width: "6rem", number: true, cell: (link) => perSecond(link.rates.back_s), by: (link) => link.rates.back_s },
    { name: "Streams", width: "6.4rem", number: true, cell: (link) => link.streams_in + link.streams_out, by: (link) => link.streams_in + link.streams_out },
    { name: "Sync", width: "5rem", number: true, cell: (link) => seconds(link.sync_age_seconds), by: (link) => link.sync_age_seconds ?? -1 },
    { name: "Certificate", width: "7.6rem", number: true, cell: (link) => until(link.cert_expiry, now), by: (link) => link.cert_expiry ?? "" },
    { name: "Message", width: "minmax(11rem, 3fr)", cell: (link) => <span title={link.message ?? undefined}>{link.message ?? ""}</span>, by: (link) => link.message ?? "" },
  ];
}

function way(link: LinkRow): string {
  const transport = link.chosen ?? link.transport ?? "–";
  return link.via ? `${transport} via ${link.via}` : transport;
}

export function Overview({ all, now }: { all: Everything; now: number }) {
  const links = Object.values(all.links);
  const notices = all.head.notices;
  return (
    <>
      <h1 class="unseen">Links of {all.head.cluster}</h1>
      {links.length === 0 ? (
        <p class="empty">No cluster is linked with this one yet. <code>isthmus invite</code> makes a token for one that is to be.</p>
      ) : (
        <>
          <Map here={all.head.cluster} links={links} />
          <VirtualTable label="Links" rows={links} keyOf={(link) => link.cluster} columns={columns(now)} first="State" empty="No link is like that." />
        </>
      )}
      {notices.length > 0 && (
        <section>
          <h2>Control says</h2>
          <ul class="notices">{notices.map((notice, i) => <li key={i}>{notice}</li>)}</ul>
        </section>
      )}
    </>
  );
}
