// What needs no browser: formats, the map's layout, sorting, and taking changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, count, flattened, millis, seconds, until } from "../src/format";
import { HEIGHT, spots, WIDTH } from "../src/layout";
import { apply, linkSeverity, serviceSeverity } from "../src/model";
import { sorted } from "../src/virtual";
import { everything, link, random } from "./samples";

test("numbers are short and keep their size", () => {
  const cases: [string, string][] = [
    [bytes(0), "0 B"], [bytes(999), "999 B"], [bytes(1000), "1 kB"], [bytes(999_999), "1 MB"], [bytes(15_300), "15.3 kB"], [bytes(null), "–"],
    [count(0.05), "0.05"], [count(1234), "1.23 k"], [millis(0.21), "0.21 ms"], [millis(1500), "1.5 s"], [millis(120_000), "2 min"],
    [seconds(89), "89 s"], [seconds(3000), "50 min"], [seconds(86_400 * 3), "3 d"],
    [until("2026-01-01T00:00:00Z", Date.parse("2025-12-31T12:00:00Z")), "in 12 h"], [until("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:01:00Z")), "60 s ago"],
  ];
  for (const [found, expected] of cases) assert.equal(found, expected);
});

test("a tree becomes lines", () => {
  assert.deepEqual(flattened({ a: { b: 1, c: null }, d: [true] }), [["a.b", "1"], ["d.0", "true"]]);
});

test("however many clusters there are, all are on the map and none hides another", () => {
  for (let n = 0; n <= 200; n += 1) {
    const at = spots(n);
    assert.equal(at.length, n);
    for (const { x, y } of at) assert.ok(x > 40 && x < WIDTH - 40 && y > 40 && y < HEIGHT - 40, `${n}: ${x} ${y}`);
    const clear = n <= 24 ? 24 : 16;
    at.forEach((a, i) => at.slice(i + 1).forEach((b) => assert.ok(Math.hypot(a.x - b.x, a.y - b.y) > clear, `${n}: two are ${Math.hypot(a.x - b.x, a.y - b.y)} apart`)));
  }
});

test("a cluster keeps its place when another one's link breaks", () => {
  assert.deepEqual(spots(7), spots(7));
});

test("what is broken is worse than what suffers, and that than what is well", () => {
  const next = random(1);
  const of = (state: Parameters<typeof link>[1], more = {}) => linkSeverity(link("a", state, next, more));
  assert.deepEqual([of("up"), of("up", { degraded: true }), of("dialling"), of("down"), of("waiting"), of("unresponsive")], [0, 1, 1, 2, 2, 2]);
  const { services } = everything(3, 40);
  const bad = Object.values(services).filter((row) => serviceSeverity(row) === 2);
  assert.deepEqual(bad.map((row) => row.service), ["team-12/service-0012"]);
});

test("changes are taken, and what did not change stays the same object", () => {
  const all = everything(3, 4);
  const [first] = Object.keys(all.links) as [string];
  const after = apply(all, { links: { [first]: null }, services: {} });
  assert.equal(Object.keys(after.links).length, 2);
  assert.equal(after.services, all.services);
  assert.equal(after.head, all.head);
});

test("rows are in the column's order, alike ones by name, also backwards", () => {
  const rows = [{ n: 1, k: "b" }, { n: 2, k: "a" }, { n: 1, k: "a" }];
  const order = (down: boolean) => sorted(rows, (row) => row.n, (row) => row.k, down).map((row) => `${row.n}${row.k}`).join(" ");
  assert.equal(order(false), "1a 1b 2a");
  assert.equal(order(true), "2a 1a 1b");
});
