// What the gateway tells: the rows of gateway/src/console/rows.rs and the details of detail.rs beside it.

export interface Rates {
  active: number;
  opened_s: number;
  failed_s: number;
  out_s: number;
  back_s: number;
  p50_ms: number | null;
  p99_ms: number | null;
}

export interface Head {
  cluster: string;
  clusterset: string;
  gateway: string;
  version: string;
  ready: boolean;
  not_ready: string | null;
  table_version: number;
  identity: { id: string | null; not_after: string | null; renews_at: string | null; last_error: string | null; message: string | null };
  silent_cores: number[];
  notices: string[];
  period_ms: number;
}

export type LinkState = "up" | "unresponsive" | "draining" | "dialling" | "down" | "waiting";

export interface LinkRow {
  cluster: string;
  state: LinkState;
  transport: string | null;
  chosen: string | null;
  chosen_because: string | null;
  via: string | null;
  direction: string | null;
  rtt_ms: number | null;
  streams_in: number;
  streams_out: number;
  tunnels: number;
  sync_age_seconds: number | null;
  cert_expiry: string | null;
  gateways: { reached: number; known: number; addresses: { address: string; gateways: string[]; message: string | null }[] };
  loss_out_percent: number | null;
  loss_in_percent: number | null;
  degraded: boolean;
  message: string | null;
  rates: Rates;
}

export interface ServiceRow {
  service: string;
  port: number;
  udp: boolean;
  listen: string[];
  clusters: Record<string, number>;
  endpoints: [serving: number, all: number] | null;
  message: string | null;
  rates: Rates;
}

export interface Everything {
  head: Head;
  links: Record<string, LinkRow>;
  services: Record<string, ServiceRow>;
}

export interface Some {
  head?: Head;
  links: Record<string, LinkRow | null>;
  services: Record<string, ServiceRow | null>;
}

export interface LinkDetail {
  history: {
    rtt_ms: (number | null)[];
    out_s: number[];
    back_s: number[];
    up: number[];
    changes: { at_ms: number; state: LinkState; chosen: string | null; via: string | null; gateways: number; message: string | null }[];
  } | null;
  tunnels: {
    core: number;
    transport: string;
    direction: string;
    health: string;
    rtt_ms: number | null;
    streams_out: number;
    streams_in: number;
    gateway: string | null;
    address: string | null;
    via: string | null;
    cert_expiry: string | null;
  }[];
  dials: { core: number; address: string | null; state: string; since_s: number; error: string | null }[];
  breaks: { core: number; times: number; ago_s: number; why: string }[];
  handshakes: { dialled: number; accepted: number; refused: Record<string, number>; dial_failures: Record<string, number> };
}

export interface ServiceHistory {
  p50_ms: (number | null)[];
  p99_ms: (number | null)[];
  opened_s: number[];
  failed_s: number[];
}

export interface ServiceDetail {
  trace: {
    imports: {
      name: string;
      listen: string;
      affinity: string;
      sticky: boolean;
      policy: unknown;
      clusters: {
        cluster: string;
        here: boolean;
        ready: number;
        healthy: number | null;
        live: boolean;
        rtt_ms: number | null;
        part: number;
        percent: number;
        message: string | null;
      }[];
    }[];
    exports: {
      name: string;
      policy: unknown;
      endpoints: {
        address: string;
        health: string;
        message: string | null;
        ejected_ms: number | null;
        ejected_by: number;
        inflight: number;
        connect_ms: number | null;
        answer_ms: number | null;
        failures: number;
        resets: number;
        percent: number;
      }[];
    }[];
  };
  histories: Record<string, ServiceHistory>;
  records: {
    time: string;
    port: number;
    direction: string;
    peer: string | null;
    source: string | null;
    client: string | null;
    endpoint: string | null;
    bytes_up: number;
    bytes_down: number;
    duration_ms: number;
    first_byte_ms: number | null;
    closed: string;
    retries: number;
    policy: string | null;
  }[];
}

/** How bad it is: what is to be seen first has the highest number. */
export type Severity = 0 | 1 | 2;

export function linkSeverity(link: LinkRow): Severity {
  if (link.state === "up") return link.degraded ? 1 : 0;
  return link.state === "dialling" || link.state === "draining" ? 1 : 2;
}

export function linkWord(link: LinkRow): string {
  return link.state === "up" && link.degraded ? "degraded" : link.state;
}

export function serviceSeverity(row: ServiceRow): Severity {
  if (row.message) return 2;
  const short = row.endpoints !== null && row.endpoints[0] < row.endpoints[1];
  return short || row.rates.failed_s > 0 ? 1 : 0;
}

/** The ready endpoints of an import, all clusters together; `null` of what is not imported. */
export function ready(row: ServiceRow): number | null {
  return row.listen.length > 0 ? Object.values(row.clusters).reduce((sum, n) => sum + n, 0) : null;
}

/** As a page that has everything takes what has changed. */
export function apply(all: Everything, some: Some): Everything {
  return { head: some.head ?? all.head, links: merged(all.links, some.links), services: merged(all.services, some.services) };
}

function merged<T>(rows: Record<string, T>, changes: Record<string, T | null>): Record<string, T> {
  const names = Object.keys(changes);
  if (names.length === 0) return rows;
  const result = { ...rows };
  for (const name of names) {
    const row = changes[name];
    if (row) result[name] = row;
    else delete result[name];
  }
  return result;
}
