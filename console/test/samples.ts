// Statuses as a gateway would tell them, of any size: for pictures, for scale, and for what real gateways seldom say.

import type { Everything, LinkDetail, LinkRow, LinkState, Rates, ServiceDetail, ServiceRow } from "../src/model";

/** The time of all samples. */
export const NOW = Date.parse("2026-03-02T10:15:30Z");

const CITIES = "amsterdam berlin cairo dublin essen florence geneva helsinki istanbul jakarta kyoto lisbon madrid nairobi oslo paris quito riga seoul tokyo utrecht vienna warsaw york".split(" ");

/** The same numbers in each run. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

function rates(next: () => number, busy: boolean): Rates {
  const opened = busy ? Math.round(next() * 400) : 0;
  const p50 = busy ? Math.round(next() * 200) / 10 + 0.3 : null;
  return {
    active: Math.round(opened / 10), opened_s: opened, failed_s: 0, out_s: opened * 420, back_s: opened * 15_300,
    p50_ms: p50, p99_ms: p50 === null ? null : p50 * 4,
  };
}

export function link(cluster: string, state: LinkState, next: () => number, more: Partial<LinkRow> = {}): LinkRow {
  const up = state === "up";
  return {
    cluster, state, transport: up ? "quic+tls" : null, chosen: up ? "tls" : null,
    chosen_because: up ? "the path loses nothing, and TLS costs less CPU" : null, via: null,
    direction: up ? (next() < 0.5 ? "dialled" : "accepted") : null, rtt_ms: up ? Math.round(next() * 900) / 10 + 1 : null,
    streams_in: up ? Math.round(next() * 40) : 0, streams_out: up ? Math.round(next() * 40) : 0, tunnels: up ? 4 : 0,
    sync_age_seconds: up ? 3 : 95, cert_expiry: up ? "2026-03-03T04:15:30Z" : null,
    gateways: { reached: up ? 2 : 0, known: 2, addresses: [{ address: "198.51.100.2:15008", gateways: up ? ["77"] : [], message: up ? null : "connection refused" }] },
    loss_out_percent: up ? 0.02 : null, loss_in_percent: up ? 0 : null, degraded: false,
    message: up ? null : "198.51.100.2:15008: connect: connection refused (os error 111)", rates: rates(next, up), ...more,
  };
}

export function everything(links: number, services: number): Everything {
  const next = random(links * 7919 + services);
  const all: Everything = {
    head: {
      cluster: "west", clusterset: "demo", gateway: "6f1b0c9d2a7e4431", version: "0.1.0", ready: true, not_ready: null, table_version: 42,
      identity: { id: "spiffe://west.demo/ns/isthmus-system/sa/gateway", not_after: null, renews_at: null, last_error: null, message: null },
      silent_cores: [], notices: [], period_ms: 1000,
    },
    links: {}, services: {},
  };
  for (let i = 0; i < links; i += 1) {
    const name = i < CITIES.length ? (CITIES[i] as string) : `${CITIES[i % CITIES.length]}-${Math.floor(i / CITIES.length) + 1}`;
    const state: LinkState = i === 2 || i === 77 ? "down" : i === 120 ? "dialling" : "up";
    const more: Partial<LinkRow> = i === 4 ? { via: "berlin", chosen_because: "no direct path: both sides are behind NATs" }
      : i === 5 ? { degraded: true, message: "the path loses 4.1% of what this gateway sends" } : {};
    all.links[name] = link(name, state, next, more);
  }
  const clusters = Object.keys(all.links);
  for (let i = 0; i < services; i += 1) {
    const service = `team-${String(i % 40).padStart(2, "0")}/service-${String(i).padStart(4, "0")}`;
    const from = clusters.length ? [clusters[i % clusters.length] as string, clusters[(i * 7 + 3) % clusters.length] as string] : [];
    const imported = i % 3 !== 2;
    const row: ServiceRow = {
      service, port: 80, udp: i % 50 === 7, listen: imported ? [`10.96.${i >> 8}.${i & 255}:80`] : [],
      clusters: imported ? Object.fromEntries(from.map((cluster, n) => [cluster, n + 2])) : {},
      endpoints: i % 3 === 1 ? null : [i % 97 === 5 ? 1 : 3, 3], message: null, rates: rates(next, i % 4 !== 3),
    };
    if (i === 12) Object.assign(row, { message: "no cluster has a ready endpoint", clusters: Object.fromEntries(from.map((cluster) => [cluster, 0])) });
    if (i === 20) row.rates = { ...row.rates, failed_s: 3.2 };
    all.services[`${service}:80${row.udp ? "/udp" : ""}`] = row;
  }
  return all;
}

function wave(points: number, middle: number, swing: number): number[] {
  return Array.from({ length: points }, (_, i) => middle + swing * Math.sin(i / 7) + (swing / 3) * Math.sin(i * 1.7));
}

export function linkDetail(row: LinkRow): LinkDetail {
  const up = row.state === "up";
  const ways = wave(120, 14, 2).map((value, i) => (i > 70 && i < 80 ? null : value));
  const change = (ago: number, state: LinkState, chosen: string | null, message: string | null) => ({
    at_ms: NOW - ago * 1000, state, chosen, via: null, gateways: state === "up" ? 2 : 0, message,
  });
  const tunnel = (core: number, transport: string) => ({
    core, transport, direction: "dialled", health: "live", rtt_ms: 14.2 + core, streams_out: 7, streams_in: 5, gateway: "77aa01c2f0e4d3b9",
    address: "198.51.100.2:15008", via: null, cert_expiry: "2026-03-03T04:15:30Z",
  });
  return {
    history: {
      rtt_ms: ways, out_s: wave(120, 2.2e6, 5e5), back_s: wave(120, 8e6, 2e6), up: ways.map((value) => (value === null ? 0 : 1)),
      changes: [
        change(600, "up", "tls", null), change(250, "down", null, "198.51.100.2:15008: no answer for 1 s"), change(205, "up", "quic", null), change(120, "up", "tls", null),
        ...(up ? [] : [change(9, "down", null, row.message)]),
      ],
    },
    tunnels: up ? [tunnel(0, "tls"), tunnel(0, "quic"), tunnel(1, "tls"), tunnel(1, "quic")] : [],
    dials: [0, 1].map((core) => ({ core, address: "198.51.100.2:15008", state: up ? "up" : "down", since_s: up ? 205 : 9, error: up ? null : row.message })),
    breaks: [{ core: 0, times: 2, ago_s: 250, why: "no answer for 1 s" }],
    handshakes: { dialled: 12, accepted: 3, refused: { expired: 1 }, dial_failures: { connect: 4, timeout: 1 } },
  };
}

export function serviceDetail(name: string, row: ServiceRow): ServiceDetail {
  const endpoint = (n: number, health: string, more = {}) => ({
    address: `10.0.0.${n}:8080`, health, message: null, ejected_ms: null, ejected_by: 0, inflight: 4, connect_ms: 0.21, answer_ms: 3.4, failures: 0, resets: 0, percent: 50, ...more,
  });
  const candidate = (cluster: string, here: boolean, percent: number, more = {}) => ({
    cluster, here, ready: 3, healthy: here ? 2 : null, live: true, rtt_ms: here ? null : 14.2, part: 1, percent, message: null, ...more,
  });
  const policy = { balance: "leastRequest", limits: { streams: 500 }, outliers: { failures: 5 } };
  const record = (i: number) => ({
    time: new Date(NOW - 4000 - i * 700).toISOString(), port: row.port, direction: "egress", peer: "berlin", source: "spiffe://west.demo/ns/shop/sa/web",
    client: `10.1.0.9:4${100 + i}`, endpoint: null, bytes_up: 412, bytes_down: 15_300 + i, duration_ms: 5.4 + i, first_byte_ms: i === 3 ? null : 4.1,
    closed: i === 3 ? "refused_no_endpoint" : "fin", retries: 0, policy: null,
  });
  return {
    trace: {
      imports: row.listen.map((listen) => ({
        name: `${name}:80`, listen, affinity: "local", sticky: false, policy,
        clusters: [candidate("west", true, 80), candidate("berlin", false, 20), candidate("cairo", false, 0, { live: false, rtt_ms: null, message: "no live tunnel leads there" })],
      })),
      exports: row.endpoints ? [{ name: `${name}:80`, policy, endpoints: [
        endpoint(2, "healthy"), endpoint(3, "healthy"),
        endpoint(4, "ejected", { message: "five failures in a row", ejected_ms: 8200, ejected_by: 2, failures: 5, percent: 0 }),
      ] }] : [],
    },
    histories: { [`${name}:80`]: { p50_ms: wave(120, 4, 1), p99_ms: wave(120, 17, 5), opened_s: wave(120, 220, 40), failed_s: wave(120, 0, 0).map((v, i) => (i > 60 && i < 66 ? 9 : v)) } },
    records: [7, 6, 5, 4, 3, 2, 1].map(record),
  };
}
