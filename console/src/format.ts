// Numbers as people read them.

const NONE = "–";

function digits(value: number): string {
  if (value === 0) return "0";
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(2).replace(/\.?0+$/, "");
}

function scaled(value: number, step: number, units: string[]): string {
  let at = 0;
  while (value >= step * 0.9995 && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  return `${digits(value)}${units[at] ? ` ${units[at]}` : ""}`;
}

export function count(value: number | null | undefined): string {
  return value == null ? NONE : scaled(value, 1000, ["", "k", "M", "G"]);
}

export function bytes(value: number | null | undefined): string {
  return value == null ? NONE : scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]);
}

export function perSecond(value: number | null | undefined): string {
  return value == null ? NONE : `${bytes(value)}/s`;
}

export function millis(value: number | null | undefined): string {
  if (value == null) return NONE;
  if (value >= 60_000) return `${digits(value / 60_000)} min`;
  return value >= 1000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`;
}

export function seconds(value: number | null | undefined): string {
  if (value == null) return NONE;
  const s = Math.round(value);
  if (s < 90) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  return s < 48 * 3600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

/** From now to a time, in words; what is past is said to be. */
export function until(time: string | null | undefined, now: number): string {
  if (!time) return NONE;
  const left = (Date.parse(time) - now) / 1000;
  return left >= 0 ? `in ${seconds(left)}` : `${seconds(-left)} ago`;
}

/** The time of day. */
export function clock(at: number | string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? NONE : date.toTimeString().slice(0, 8);
}

export function shortened(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/** A tree as lines of `path: value`. */
export function flattened(value: unknown, path = ""): [string, string][] {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object") return [[path, String(value)]];
  return Object.entries(value).flatMap(([key, inner]) => flattened(inner, path ? `${path}.${key}` : key));
}
