// Whether files are dashboards as Grafana has them (dashboard.ts), and whether their panels hold together: each has an id and a place
// of its own, and every variable that is used is there. What is wrong is said with line and column, and ends this with 1.
//
// usage: node check.mjs FILE...

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const here = dirname(fileURLToPath(import.meta.url));
/** How wide Grafana's grid is. */
const WIDTH = 24;
const options = {
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  target: ts.ScriptTarget.ES2022,
  types: [],
};

/** What the schema says against these texts, by their paths: the lines, by their paths, too. */
function schema(texts) {
  const head = "export const dashboard: import('./dashboard').Dashboard =\n";
  const sources = new Map([...texts.values()].map((text, n) => [join(here, `file-${n}.ts`), head + text]));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (path) => sources.has(path) || fileExists(path);
  host.readFile = (path) => sources.get(path) ?? readFile(path);
  host.getSourceFile = (path, target, ...rest) =>
    sources.has(path) ? ts.createSourceFile(path, sources.get(path), target, true) : getSourceFile(path, target, ...rest);
  const program = ts.createProgram([...sources.keys()], options, host);
  // What is wrong with the types themselves would hide everything.
  const broken = [...program.getOptionsDiagnostics(), ...program.getSemanticDiagnostics(program.getSourceFile(join(here, 'dashboard.ts')))];
  if (broken.length > 0) throw new Error(`dashboard.ts: ${broken.map(words).join('\n')}`);
  const paths = [...texts.keys()];
  const lines = (source, n) => {
    const file = program.getSourceFile(source);
    const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
    return found.map((one) => {
      const { line, character } = file.getLineAndCharacterOfPosition(one.start);
      return `${paths[n]}:${line}:${character + 1}: ${words(one)}`;
    });
  };
  return new Map([...sources.keys()].map((source, n) => [paths[n], lines(source, n)]));
}

/** A diagnostic's last line is the one that says what is wrong. */
function words(diagnostic) {
  return ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n').split('\n').at(-1).trim();
}

/** What no schema says. */
function sense(path, dashboard) {
  const found = [];
  const say = (panel, what) => found.push(`${path}: panel ${panel.id} (${panel.title}): ${what}`);
  const panels = dashboard.panels;
  panels.forEach((panel, n) => {
    const { x, y, w, h } = panel.gridPos ?? {};
    const fits = [x, y, w, h].every(Number.isInteger) && x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= WIDTH;
    if (!fits) say(panel, `found the place ${JSON.stringify(panel.gridPos)}, expected one within ${WIDTH} columns`);
    for (const other of panels.slice(0, n)) {
      if (other.id === panel.id) say(panel, `found the id of ${other.title}, expected one of its own`);
      const { x: left, y: top, w: width, h: height } = other.gridPos ?? {};
      if (x < left + width && left < x + w && y < top + height && top < y + h) say(panel, `found it over ${other.title}, expected it beside`);
    }
    if (panel.type !== 'row' && panel.targets.length === 0) say(panel, 'found no query, expected one');
  });
  const known = new Set(dashboard.templating?.list?.map((variable) => variable.name));
  for (const [, name] of JSON.stringify(dashboard).matchAll(/\$\{?([A-Za-z_]\w*)/g)) {
    // Those that begin so are Grafana's own.
    if (!name.startsWith('__') && !known.has(name)) found.push(`${path}: found the variable $${name}, expected one of ${[...known].join(', ')}`);
  }
  return [...new Set(found)];
}

function main(paths) {
  if (paths.length === 0) {
    console.error('usage: node check.mjs FILE...');
    return 2;
  }
  const texts = new Map(paths.map((path) => [path, readFileSync(path, 'utf8')]));
  const found = [];
  for (const [path, text] of texts) {
    try {
      JSON.parse(text);
    } catch (error) {
      found.push(`${path}: found no JSON: ${error.message}`);
      texts.delete(path);
    }
  }
  for (const [path, lines] of schema(texts)) {
    // Only what has the right form can be looked at for sense.
    found.push(...(lines.length > 0 ? lines : sense(path, JSON.parse(texts.get(path)))));
  }
  for (const line of found) console.error(line);
  return found.length > 0 ? 1 : 0;
}

process.exitCode = main(process.argv.slice(2));
