// All services, with a filter.

import { useState } from "preact/hooks";
import { count, millis } from "./format";
import { ready, type ServiceRow, serviceSeverity } from "./model";
import { State } from "./parts";
import { type Column, VirtualTable } from "./virtual";

function nameOf(row: ServiceRow): string {
  return `${row.service}:${row.port}${row.udp ? "/udp" : ""}`;
}

const WORDS = ["well", "degraded", "broken"] as const;

const COLUMNS: Column<ServiceRow>[] = [
  { name: "State", width: "8rem", cell: (row) => <State word={WORDS[serviceSeverity(row)]} severity={serviceSeverity(row)} />, by: (row) => -serviceSeverity(row) },
  { name: "Service", width: "minmax(14rem, 2fr)", cell: (row) => <a href={`#/service/${row.service}`}>{nameOf(row)}</a>, by: nameOf },
  { name: "Served by", width: "minmax(7rem, 1fr)", cell: servedBy, by: (row) => Object.keys(row.clusters).join() },
  { name: "Ready", width: "5rem", number: true, cell: (row) => ready(row) ?? "–", by: (row) => ready(row) ?? -1 },
  { name: "Exported", width: "7rem", number: true, cell: (row) => (row.endpoints ? `${row.endpoints[0]} of ${row.endpoints[1]}` : "–"), by: (row) => row.endpoints?.[0] ?? -1 },
  { name: "Streams", width: "6.4rem", number: true, cell: (row) => count(row.rates.active), by: (row) => row.rates.active },
  { name: "Begun/s", width: "6.4rem", number: true, cell: (row) => count(row.rates.opened_s), by: (row) => row.rates.opened_s },
  { name: "p50", width: "5.5rem", number: true, cell: (row) => millis(row.rates.p50_ms), by: (row) => row.rates.p50_ms ?? -1 },
  { name: "p99", width: "5.5rem", number: true, cell: (row) => millis(row.rates.p99_ms), by: (row) => row.rates.p99_ms ?? -1 },
  { name: "Errors/s", width: "6.4rem", number: true, cell: (row) => <span class={row.rates.failed_s > 0 ? "bad" : undefined}>{count(row.rates.failed_s)}</span>, by: (row) => row.rates.failed_s },
  { name: "Message", width: "minmax(9rem, 1.5fr)", cell: (row) => <span title={row.message ?? undefined}>{row.message ?? ""}</span>, by: (row) => row.message ?? "" },
];

function servedBy(row: ServiceRow) {
  const text = Object.entries(row.clusters).map(([cluster, ready]) => `${cluster} ${ready}`).join(", ");
  return <span title={text}>{text || "–"}</span>;
}

export function ServicesPage({ services }: { services: Record<string, ServiceRow> }) {
  const [text, filter] = useState("");
  const [only, restrict] = useState(false);
  const all = Object.values(services);
  const wanted = text.trim().toLowerCase();
  const rows = all.filter((row) => (!only || serviceSeverity(row) > 0) && (!wanted || nameOf(row).includes(wanted)));
  if (all.length === 0) {
    return (
      <>
        <h1>Services</h1>
        <p class="empty">Nothing is imported or exported here yet. <code>isthmus export</code> shares a service with linked clusters.</p>
      </>
    );
  }
  return (
    <>
      <h1>Services</h1>
      <div class="filter">
        <label>Filter <input type="search" value={text} placeholder="namespace/name" onInput={(event) => filter(event.currentTarget.value)} /></label>
        <label><input type="checkbox" checked={only} onChange={(event) => restrict(event.currentTarget.checked)} /> only those with trouble</label>
        <output>{rows.length === all.length ? `${all.length} services` : `${rows.length} of ${all.length} services`}</output>
      </div>
      <VirtualTable label="Services" rows={rows} keyOf={nameOf} columns={COLUMNS} first="State" empty="No service is like that." />
    </>
  );
}
