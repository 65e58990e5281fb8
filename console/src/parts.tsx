// Small parts that every page uses.

import type { ComponentChildren } from "preact";
import type { Severity } from "./model";

const MARKS = ["●", "▲", "✕"] as const;

/** A word for a state, with a mark and a colour; the word alone says it all. */
export function State({ word, severity }: { word: string; severity: Severity }) {
  return (
    <span class={`state s${severity}`}>
      <span aria-hidden="true">{MARKS[severity]}</span> {word}
    </span>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A table of what is little: at most some hundred rows. */
export function Table({ label, heads, rows, empty }: { label: string; heads: (string | { number: string })[]; rows: ComponentChildren[][]; empty: string }) {
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const isNumber = (at: number) => typeof heads[at] === "object";
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table aria-label={label}>
        <thead>
          <tr>{heads.map((head, i) => <th key={i} scope="col" class={isNumber(i) ? "n" : undefined}>{typeof head === "object" ? head.number : head}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row, r) => (
            <tr key={r}>{row.map((cell, i) => <td key={i} class={isNumber(i) ? "n" : undefined}>{cell}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
