// The page of a real gateway, for tests/console: says on stdout what it sees, and is told on stdin what happens.
//
//   node live.mjs ADDRESS CLUSTER SERVICE
//
// It prints `up` when the map shows CLUSTER up. After a line `cut` comes in, it waits until page and map show the link broken, and
// prints `broken MILLISECONDS`. After `service` it opens SERVICE's page and prints its last streams' table once it has a row. Where
// the environment's PICTURES names a directory, it draws what it sees there.

import { createInterface } from "node:readline";
import { withPage } from "./browser.mjs";

const [address, cluster, service] = process.argv.slice(2);

await withPage({}, async (page, complaints) => {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  await page.goto(address);
  const node = (state) => page.locator(`a.node[aria-label^="${cluster}: ${state}"]`);
  await node("up").waitFor();
  const draw = async (name) => process.env.PICTURES && page.screenshot({ path: `${process.env.PICTURES}/live-${name}.png`, fullPage: true });
  console.log("up");
  await draw("up");
  for (;;) {
    const { value: word, done } = await lines.next();
    if (done) break;
    if (word === "cut") {
      const begun = performance.now();
      await page.locator(`a.node.s2[aria-label^="${cluster}: "]`).waitFor();
      await page.locator(`.trouble a[href="#/link/${cluster}"]`).waitFor();
      console.log(`broken ${Math.round(performance.now() - begun)}`);
      await draw("broken");
    } else if (word === "healed") {
      await node("up").waitFor();
      console.log("up");
    } else if (word === "link") {
      await page.goto(`${address}#/link/${cluster}`);
      const history = page.locator('table[aria-label="Path history"]');
      await history.locator("tbody tr").nth(2).waitFor();
      await draw("link");
      console.log(`history ${(await history.innerText()).replaceAll("\n", " | ")}`);
    } else if (word === "service") {
      await page.goto(`${address}#/service/${service}`);
      await page.locator('table[aria-label^="Clusters for"] tbody tr').first().waitFor();
      console.log("service");
      const row = page.locator('table[aria-label="Last streams"] tbody tr').first();
      await row.waitFor();
      await draw("service");
      console.log(`stream ${(await row.innerText()).replaceAll("\t", " ")}`);
    }
  }
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
});
