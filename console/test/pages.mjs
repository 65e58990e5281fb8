// The page with samples, in Chromium: what it shows, how it is used without a mouse and by screen readers, how it fares with 200
// clusters and 5,000 services.
//
//   node test/pages.mjs                      all tests
//   node test/pages.mjs --pictures DIRECTORY  writes pictures of all pages there as well

import axe from "axe-core";
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { join } from "node:path";
import { withPage } from "./browser.mjs";
import { bundled } from "./bundled.mjs";

const { everything, link, linkDetail, random, serviceDetail, NOW } = await bundled("samples.ts");
const at = process.argv.indexOf("--pictures");
const pictures = at > 0 ? process.argv[at + 1] : undefined;
if (pictures) await mkdir(pictures, { recursive: true });

// Serves dist/ as the gateway does, with its policy, and tells whatever a test has put into `sample`.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const KINDS = { "index.html": "text/html; charset=utf-8", "console.js": "text/javascript; charset=utf-8", "console.css": "text/css; charset=utf-8" };
let sample = everything(3, 40);
const open = new Set();

function event(kind, data) {
  return `event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`;
}

function detail(parts) {
  if (parts[0] === "link") return sample.links[parts[1]] && linkDetail(sample.links[parts[1]]);
  const name = `${parts[1]}/${parts[2]}`;
  const row = Object.values(sample.services).find((row) => row.service === name);
  return row && serviceDetail(name, row);
}

const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://x").pathname.replace(/^\/console\//, "");
  if (path.startsWith("events")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const parts = path.split("/").slice(1);
    if (parts.length === 0) {
      response.write(event("all", sample));
      open.add(response);
      request.on("close", () => open.delete(response));
    } else {
      const data = detail(parts);
      if (data) response.write(event("detail", data));
    }
    return;
  }
  const name = path || "index.html";
  if (!KINDS[name]) return response.writeHead(404).end();
  const file = await readFile(new URL(`../dist/${name}.gz`, import.meta.url));
  response.writeHead(200, { "content-type": KINDS[name], "content-encoding": "gzip", "content-security-policy": POLICY }).end(file);
});
let address;

before(async () => {
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  address = `http://127.0.0.1:${server.address().port}/console/`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function tell(some) {
  for (const response of open) response.write(event("some", { links: {}, services: {}, ...some }));
}

async function visit(hash, all, use, options = {}) {
  sample = all;
  await withPage(options, async (page, complaints) => {
    await page.clock.setFixedTime(NOW);
    await page.goto(address + hash);
    await page.waitForSelector("main h1, main .empty");
    await use(page);
    assert.deepEqual(complaints.filter((line) => !options.tolerated?.test(line)), []);
  });
}

async function isAccessible(page) {
  // The page's policy has no room for a script of ours: this one goes round it.
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const lines = found.violations.map((of) => `${of.id}: ${of.help}: ${of.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(lines, []);
}

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

const SERVICE = "#/service/team-00/service-0000";
const PAGES = [
  ["links", "", everything(7, 40), "svg.map"],
  ["links-200", "", everything(200, 5000), "svg.map"],
  ["links-none", "", everything(0, 0), ".empty"],
  ["services", "#/services", everything(7, 5000), ".virtual"],
  ["services-none", "#/services", everything(1, 0), ".empty"],
  ["service", SERVICE, everything(7, 40), "text=Last streams"],
  ["link", "#/link/amsterdam", everything(7, 40), "text=Path history"],
  ["link-down", "#/link/cairo", everything(7, 40), "text=Path history"],
];
for (const [name, hash, all, sign] of PAGES) {
  for (const colorScheme of ["light", "dark"]) {
    test(`${name} in ${colorScheme} is accessible`, async () => {
      await visit(hash, all, async (page) => {
        await page.waitForSelector(sign);
        await picture(page, `${name}-${colorScheme}`);
        await isAccessible(page);
      }, { colorScheme });
    });
  }
}

test("on a phone nothing is wider than the screen, and it is accessible", async () => {
  for (const hash of ["", "#/services", SERVICE, "#/link/amsterdam"]) {
    await visit(hash, everything(7, 40), async (page) => {
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${hash}: ${wide} px wider`);
      await picture(page, `phone${hash.replace(/\W+/g, "-")}`);
      await isAccessible(page);
    }, { viewport: { width: 390, height: 844 } });
  }
});

test("a link that breaks is said at once, on top, on the map and in the table", async () => {
  await visit("", everything(3, 4), async (page) => {
    const next = random(1);
    await page.waitForSelector("svg.map");
    assert.equal(await page.locator(".trouble a").count(), 1, "cairo is down");
    tell({ links: { berlin: link("berlin", "down", next, { message: "no answer for 1 s" }) } });
    await page.waitForSelector(".trouble >> text=no answer for 1 s");
    assert.equal(await page.locator('a.node.s2[aria-label^="berlin: down"]').count(), 1);
    assert.equal(await page.locator('[role=row][aria-rowindex="2"] >> text=berlin').count(), 1, "what is broken is first");
    tell({ links: { berlin: link("berlin", "up", next), cairo: null } });
    await page.locator(".trouble p").waitFor({ state: "detached" });
    assert.equal(await page.locator("a.node").count(), 2);
  });
});

test("a gateway that is gone is said, and its return is seen", async () => {
  await visit("", everything(3, 4), async (page) => {
    await page.waitForSelector("svg.map");
    for (const response of open) response.destroy();
    await page.locator(".trouble >> text=Not live").waitFor();
    await page.locator(".trouble >> text=Not live").waitFor({ state: "detached" });
  }, { tolerated: /net::ERR/ });
});

test("of 5,000 services few rows are in the document, and the keys reach all of them", async () => {
  await visit("#/services", everything(200, 5000), async (page) => {
    const table = page.locator('[role=table][aria-label="Services"]');
    await table.waitFor();
    assert.equal(await table.getAttribute("aria-rowcount"), "5001");
    assert.ok((await table.locator("[role=row]").count()) < 60);
    await table.focus();
    await page.keyboard.press("ArrowDown");
    await page.locator('[aria-rowindex="2"] a:focus').waitFor();
    await page.keyboard.press("End");
    await page.locator('[aria-rowindex="5001"] a:focus').waitFor();
    await page.keyboard.press("Enter");
    await page.waitForSelector("text=Last streams");
    assert.match(page.url(), /#\/service\/team-/);
  });
});

test("the filter and the heads of columns do what they say", async () => {
  await visit("#/services", everything(7, 5000), async (page) => {
    await page.getByLabel("Filter").fill("service-0011");
    await page.waitForSelector("text=1 of 5000 services");
    await page.getByLabel("Filter").fill("");
    await page.getByLabel("only those with trouble").check();
    await page.locator(".virtual .body .state.s0").first().waitFor({ state: "detached" });
    await page.getByLabel("only those with trouble").uncheck();
    await page.getByRole("button", { name: "p99" }).click();
    await page.getByRole("button", { name: "p99" }).click();
    await page.waitForSelector('[role=columnheader][aria-sort="descending"] >> text=p99');
    const first = await page.locator('[aria-rowindex="2"] [role=cell]').nth(8).textContent();
    assert.match(first, /8\d(\.\d)? ms/);
  });
});

test("a change of all 200 links and 5,000 services at once is taken", async () => {
  await visit("#/services", everything(200, 5000), async (page) => {
    await page.waitForSelector(".virtual");
    await page.getByRole("button", { name: "Streams" }).click();
    const services = Object.entries(sample.services).map(([name, row]) => [name, { ...row, rates: { ...row.rates, active: row.rates.active + 1000 } }]);
    tell({ links: sample.links, services: Object.fromEntries(services) });
    await page.locator('[aria-rowindex="2"] >> text=1 k').waitFor();
  });
});

test("colours can be chosen, and stay", async () => {
  await visit("", everything(3, 4), async (page) => {
    const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await back();
    await page.getByRole("button", { name: /Colours/ }).click();
    assert.notEqual(await back(), light);
    await page.reload();
    await page.waitForSelector("svg.map");
    assert.notEqual(await back(), light);
  }, { colorScheme: "light" });
});
