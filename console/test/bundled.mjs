// Imports a module of TypeScript as Node sees it.

import { build } from "esbuild";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export async function bundled(entry) {
  const dir = await mkdtemp(join(tmpdir(), "isthmus-console-"));
  const outfile = join(dir, "module.mjs");
  try {
    await build({
      absWorkingDir: new URL("./", import.meta.url).pathname, entryPoints: [entry], outfile, bundle: true, platform: "node", format: "esm",
      jsx: "automatic", jsxImportSource: "preact", logLevel: "warning",
    });
    return await import(outfile);
  } finally {
    await rm(dir, { recursive: true });
  }
}
