// A table of as many rows as there are: only those in view are in the document.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface Column<T> {
  name: string;
  /** As a track of a CSS grid. */
  width: string;
  number?: boolean;
  cell: (row: T) => ComponentChildren;
  /** What it is sorted by: what is less comes first. */
  by: (row: T) => string | number;
}

interface Props<T> {
  label: string;
  rows: T[];
  keyOf: (row: T) => string;
  columns: Column<T>[];
  /** The column that it is sorted by at first. */
  first: string;
  empty: string;
}

/** As in console.css. */
const ROW = 36;
const SHOWN = 16;
const BESIDE = 8;

/** Rows in the order of a column, alike ones by name. */
export function sorted<T>(rows: T[], by: (row: T) => string | number, keyOf: (row: T) => string, down: boolean): T[] {
  const sign = down ? -1 : 1;
  const less = (a: string | number, b: string | number) => (a < b ? -1 : a > b ? 1 : 0);
  return rows
    .map((row) => ({ row, at: by(row), key: keyOf(row) }))
    .sort((a, b) => sign * less(a.at, b.at) || less(a.key, b.key))
    .map(({ row }) => row);
}

export function VirtualTable<T>({ label, rows, keyOf, columns, first, empty }: Props<T>) {
  const [order, sort] = useState({ name: first, down: false });
  const [top, scrolled] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const wanted = useRef<number | null>(null);
  const column = columns.find((column) => column.name === order.name) ?? columns[0];
  const all = column ? sorted(rows, column.by, keyOf, order.down) : rows;
  const from = Math.max(0, Math.floor(top / ROW) - BESIDE);
  const shown = all.slice(from, from + SHOWN + 2 * BESIDE);
  // Head and rows are grids of their own: that their columns meet, both are at least as wide as all columns together.
  const least = { minWidth: `${columns.reduce((sum, column) => sum + (parseFloat(column.width.replace(/^\D+/, "")) || 0), 0)}rem` };
  const tracks = { gridTemplateColumns: columns.map((column) => column.width).join(" ") };

  const reach = () => {
    if (wanted.current === null) return;
    const link = box.current?.querySelector<HTMLElement>(`[aria-rowindex="${wanted.current + 2}"] a`);
    if (link) {
      link.focus({ preventScroll: true });
      wanted.current = null;
    }
  };
  // The row that a key leads to may be there only after the scrolling.
  useEffect(reach);

  const step = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !box.current || all.length === 0) return;
    event.preventDefault();
    const row = document.activeElement?.closest("[aria-rowindex]")?.getAttribute("aria-rowindex");
    const now = row ? Number(row) - 2 : -1;
    const next = Math.min(all.length - 1, Math.max(0, now + by));
    wanted.current = next;
    const { scrollTop, clientHeight } = box.current;
    const y = next * ROW;
    if (y < scrollTop) box.current.scrollTop = y;
    else if (y + 2 * ROW > scrollTop + clientHeight) box.current.scrollTop = y + 2 * ROW - clientHeight;
    scrolled(box.current.scrollTop);
    reach();
  };

  if (rows.length === 0) return <p class="empty">{empty}</p>;
  return (
    <div
      class="virtual" ref={box} tabIndex={0} role="table" aria-label={label} aria-rowcount={all.length + 1}
      onScroll={(event) => scrolled(event.currentTarget.scrollTop)} onKeyDown={step}
    >
      <div role="rowgroup" class="heads" style={least}>
        <div role="row" aria-rowindex={1} class="row" style={tracks}>
          {columns.map((column) => {
            const here = column.name === order.name;
            return (
              <div key={column.name} role="columnheader" class={column.number ? "n" : undefined} aria-sort={here ? (order.down ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => sort({ name: column.name, down: here && !order.down })}>
                  {column.name}
                  <span aria-hidden="true">{here ? (order.down ? " ↓" : " ↑") : ""}</span>
                </button>
              </div>
            );
          })}
        </div>
      </div>
      <div role="rowgroup" class="body" style={{ ...least, height: `${all.length * ROW}px` }}>
        {shown.map((row, i) => (
          <div key={keyOf(row)} role="row" aria-rowindex={from + i + 2} class="row" style={{ ...tracks, top: `${(from + i) * ROW}px` }}>
            {columns.map((column) => <div key={column.name} role="cell" class={column.number ? "n" : undefined}>{column.cell(row)}</div>)}
          </div>
        ))}
      </div>
    </div>
  );
}
