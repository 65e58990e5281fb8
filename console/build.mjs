// Builds dist/ from src/. What lies there compressed is part of the repository, so that cargo needs no Node.
//
//   node build.mjs            writes dist/
//   node build.mjs --check    fails if dist/ is not what would be written

import { build } from "esbuild";
import { readFile, writeFile, mkdir } from "node:fs/promises";
import { gunzipSync, gzipSync } from "node:zlib";

const here = new URL("./", import.meta.url);
const result = await build({
  absWorkingDir: here.pathname,
  entryPoints: ["src/console.tsx", "src/console.css"],
  outdir: "dist",
  bundle: true,
  minify: true,
  charset: "utf8",
  legalComments: "none",
  target: ["chrome123", "firefox121", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  write: false,
});
const files = new Map(result.outputFiles.map((file) => [file.path.split("/").pop(), Buffer.from(file.contents)]));
files.set("index.html", await readFile(new URL("src/index.html", here)));

let total = 0;
for (const [name, bytes] of files) {
  const path = new URL(`dist/${name}.gz`, here);
  const packed = gzipSync(bytes, { level: 9 });
  total += packed.length;
  // What is compressed differs between versions of zlib; what was compressed does not.
  const there = await readFile(path).then(gunzipSync, () => null);
  if (there?.equals(bytes)) continue;
  if (process.argv.includes("--check")) {
    console.error(`console/dist/${name}.gz is not what console/src makes: run \`npm run build\` in console/`);
    process.exitCode = 1;
    continue;
  }
  await mkdir(new URL("dist/", here), { recursive: true });
  await writeFile(path, packed);
}
console.log(`console: ${(total / 1024).toFixed(1)} KiB compressed`);
if (total > 300 * 1024) {
  console.error("console: found more than 300 KiB compressed, expected less");
  process.exitCode = 1;
}
