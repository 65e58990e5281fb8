// Where the clusters of the map stand: on ellipses around this one, by name, so that none moves when another one's link breaks.

export interface Spot {
  x: number;
  y: number;
}

/** The map's size; its centre is this cluster. */
export const WIDTH = 1000;
export const HEIGHT = 560;
/** Up to so many clusters have their names beside them at all times. */
export const MOST_NAMED = 24;

const STRETCH = 1.72;

/** The spots of so many clusters, in order. */
export function spots(count: number): Spot[] {
  if (count === 0) return [];
  const rings = count <= 12 ? [190] : count <= MOST_NAMED ? [130, 220] : [105, 145, 185, 225];
  const lengths = rings.map((radius) => radius);
  const used = takeRings(lengths, count);
  const result: Spot[] = [];
  used.forEach(({ radius, members }, ring) => {
    for (let i = 0; i < members; i += 1) {
      // Half a step of difference between rings keeps the lines apart; a pair stands left and right.
      const turn = (i + (ring % 2) / 2) / members + (count === 1 || count === 2 ? 0 : -0.25);
      const angle = 2 * Math.PI * turn;
      result.push({ x: WIDTH / 2 + radius * STRETCH * Math.cos(angle), y: HEIGHT / 2 + radius * Math.sin(angle) });
    }
  });
  return result;
}

/** Shares members out to rings by their length. */
function takeRings(radii: number[], count: number): { radius: number; members: number }[] {
  const all = radii.reduce((sum, radius) => sum + radius, 0);
  let left = count;
  return radii.map((radius, i) => {
    const members = i === radii.length - 1 ? left : Math.min(left, Math.round((count * radius) / all));
    left -= members;
    return { radius, members };
  });
}
