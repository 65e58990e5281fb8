// Lines over the last ten minutes.

export interface Line {
  name: string;
  values: (number | null)[];
}

const W = 600;
const H = 140;
const LEFT = 64;
const BOTTOM = 20;
const TOP = 10;
/** Points of ten minutes, one every five seconds. */
const POINTS = 120;

/** A round number that is not below the highest. */
function top(values: number[]): number {
  const highest = Math.max(0, ...values);
  if (highest === 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= highest) ?? highest;
}

/** What is not known is a gap. */
function path(values: (number | null)[], high: number): string {
  const step = (W - LEFT) / (POINTS - 1);
  let pen = "M";
  let text = "";
  values.forEach((value, i) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = W - (values.length - 1 - i) * step;
    const y = H - BOTTOM - ((H - BOTTOM - TOP) * value) / high;
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    // A point alone is to be seen, too.
    if (pen === "M") text += "h0.1";
    pen = "L";
  });
  return text;
}

export function Chart({ title, lines, format }: { title: string; lines: Line[]; format: (value: number | null) => string }) {
  const known = lines.flatMap((line) => line.values.filter((value): value is number => value !== null));
  const high = top(known);
  const now = lines.map((line) => `${line.name} ${format(line.values.at(-1) ?? null)}`).join(", ");
  return (
    <figure class="chart">
      <figcaption>
        {title}
        {lines.map((line, i) => (
          <span key={line.name} class={`key l${i}`}>{line.name} <b>{format(line.values.at(-1) ?? null)}</b></span>
        ))}
      </figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={`${title}, the last ten minutes. Now: ${now}. Highest: ${format(known.length ? Math.max(...known) : null)}`}>
        {[0, 0.5, 1].map((part) => {
          const y = H - BOTTOM - (H - BOTTOM - TOP) * part;
          return (
            <g key={part}>
              <line class="grid" x1={LEFT} x2={W} y1={y} y2={y} />
              <text x={LEFT - 8} y={y + 4} text-anchor="end">{format(high * part)}</text>
            </g>
          );
        })}
        <text x={LEFT} y={H - 4}>10 min ago</text>
        <text x={W} y={H - 4} text-anchor="end">now</text>
        {lines.map((line, i) => <path key={line.name} class={`l${i}`} d={path(line.values, high)} />)}
      </svg>
      {known.length === 0 && <p class="empty">No word of it yet.</p>}
    </figure>
  );
}
