// The clusters that this one is linked with, and how the links fare.

import { millis, perSecond, shortened } from "./format";
import { HEIGHT, MOST_NAMED, type Spot, spots, WIDTH } from "./layout";
import { type LinkRow, linkSeverity, linkWord } from "./model";

/** Broken links are named on a map of many, up to so many. */
const MOST_BROKEN_NAMED = 12;

function width(link: LinkRow): number {
  const moved = link.rates.out_s + link.rates.back_s;
  return moved > 0 ? Math.min(7, 1.5 + Math.log10(1 + moved / 1000)) : 1.5;
}

/** What a link is, in words: for whoever does not see the map. */
function described(link: LinkRow): string {
  const way = [link.transport, link.direction, link.via && `through ${link.via}`].filter(Boolean).join(", ");
  const moved = `out ${perSecond(link.rates.out_s)}, in ${perSecond(link.rates.back_s)}`;
  return `${link.cluster}: ${linkWord(link)}. ${way ? `${way}. ` : ""}Round trip ${millis(link.rtt_ms)}, ${moved}.${link.message ? ` ${link.message}` : ""}`;
}

function between(a: Spot, b: Spot, part: number): Spot {
  return { x: a.x + (b.x - a.x) * part, y: a.y + (b.y - a.y) * part };
}

function Edge({ link, from, to, few }: { link: LinkRow; from: Spot; to: Spot; few: boolean }) {
  const severity = linkSeverity(link);
  const [a, b] = [between(from, to, link.via ? 0.06 : 0.12), between(from, to, 0.94)];
  const middle = between(from, to, 0.55);
  const dialled = link.direction?.includes("dialled");
  const accepted = link.direction?.includes("accepted");
  return (
    <g class={`edge s${severity}${link.via ? " relayed" : ""}`} aria-hidden="true">
      <line
        x1={a.x} y1={a.y} x2={b.x} y2={b.y}
        stroke-width={severity === 2 ? 4 : width(link)}
        marker-end={few && severity < 2 && dialled ? `url(#arrow${severity})` : undefined}
        marker-start={few && severity < 2 && accepted ? `url(#arrow${severity})` : undefined}
      />
      {severity === 2 && <text class="cut" x={middle.x} y={middle.y + 8} text-anchor="middle">✕</text>}
    </g>
  );
}

function Node({ link, at, named, few }: { link: LinkRow; at: Spot; named: boolean; few: boolean }) {
  const severity = linkSeverity(link);
  const below = at.y >= HEIGHT / 2 - 1;
  const y = (line: number) => (below ? at.y + 28 + 16 * line : at.y - 32 + 16 * line);
  const moved = perSecond(link.rates.out_s + link.rates.back_s);
  // Among many there is room for a word.
  const isWord = link.state !== "up" || (link.degraded && !few);
  const numbers = isWord ? linkWord(link) : `${link.degraded ? "degraded" : millis(link.rtt_ms)} · ${moved}`;
  return (
    <a href={`#/link/${link.cluster}`} class={`node s${severity}${named ? " named" : ""}`} aria-label={described(link)}>
      <title>{described(link)}</title>
      <circle cx={at.x} cy={at.y} r={named ? 11 : 8} />
      <text class="name" x={at.x} y={y(0)} text-anchor="middle">{shortened(link.cluster, 20)}</text>
      <text class="numbers" x={at.x} y={y(1)} text-anchor="middle">{numbers}</text>
    </a>
  );
}

export function Map({ here, links }: { here: string; links: LinkRow[] }) {
  const sorted = [...links].sort((a, b) => a.cluster.localeCompare(b.cluster));
  const places = spots(sorted.length);
  const centre: Spot = { x: WIDTH / 2, y: HEIGHT / 2 };
  const at = (i: number) => places[i] ?? centre;
  const spotOf = (cluster: string) => {
    const i = sorted.findIndex((link) => link.cluster === cluster);
    return i < 0 ? centre : at(i);
  };
  const few = sorted.length <= MOST_NAMED;
  const broken = sorted.filter((link) => linkSeverity(link) > 0).sort((a, b) => linkSeverity(b) - linkSeverity(a)).slice(0, MOST_BROKEN_NAMED);
  const order = sorted.map((link, i) => ({ link, i })).sort((a, b) => linkSeverity(a.link) - linkSeverity(b.link));
  return (
    <svg class={few ? "map" : "map many"} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label={`Map: ${here} and ${links.length} linked clusters. The table below has the same.`}>
      <defs>
        {[0, 1].map((severity) => (
          <marker key={severity} id={`arrow${severity}`} class={`arrow s${severity}`} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="11" markerHeight="11" markerUnits="userSpaceOnUse" orient="auto-start-reverse">
            <path d="M0 0L10 5L0 10z" />
          </marker>
        ))}
      </defs>
      {order.map(({ link, i }) => <Edge key={link.cluster} few={few} link={link} from={link.via ? spotOf(link.via) : centre} to={at(i)} />)}
      <g class="here" aria-hidden="true">
        <rect x={centre.x - 62} y={centre.y - 22} width="124" height="44" rx="22" />
        <text x={centre.x} y={centre.y + 5} text-anchor="middle">{shortened(here, 14)}</text>
      </g>
      {order.map(({ link, i }) => <Node key={link.cluster} few={few} link={link} at={at(i)} named={few || broken.includes(link)} />)}
    </svg>
  );
}
