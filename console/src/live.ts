// What the gateway says, as it comes. While the page is hidden nothing is asked for.

import { type Everything, type LinkDetail, type ServiceDetail, type Some, apply } from "./model";

export interface Live {
  all: Everything | null;
  /** When the last word came, in milliseconds since 1970. */
  heard: number;
  /** Why nothing comes; `null` while something does. */
  lost: string | null;
}

/** An event stream that is opened again when it ends, and closed while nobody sees it. */
class Stream {
  private source: EventSource | null = null;
  private again: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly path: string,
    private readonly on: Record<string, (data: string) => void>,
    private readonly lost: () => void,
  ) {
    document.addEventListener("visibilitychange", this.see);
    this.see();
  }

  private see = () => (document.hidden ? this.shut() : this.open());

  private open() {
    if (this.source) return;
    const source = new EventSource(this.path);
    this.source = source;
    for (const [kind, take] of Object.entries(this.on)) {
      source.addEventListener(kind, (event) => take((event as MessageEvent<string>).data));
    }
    source.onerror = () => {
      this.lost();
      this.shut();
      this.again = setTimeout(() => !document.hidden && this.open(), 1000);
    };
  }

  private shut() {
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }

  end() {
    document.removeEventListener("visibilitychange", this.see);
    this.shut();
  }
}

/** Everything, and each change of it. */
export function watchAll(tell: (live: Live) => void): () => void {
  let live: Live = { all: null, heard: 0, lost: null };
  const take = (all: Everything) => {
    live = { all, heard: Date.now(), lost: null };
    tell(live);
  };
  const stream = new Stream(
    "events",
    {
      all: (data) => take(JSON.parse(data) as Everything),
      some: (data) => live.all && take(apply(live.all, JSON.parse(data) as Some)),
    },
    () => tell((live = { ...live, lost: "the gateway does not answer" })),
  );
  return () => stream.end();
}

/** The details of a service, or of a link. */
export function watchDetail(kind: "service" | "link", name: string, tell: (detail: ServiceDetail | LinkDetail) => void): () => void {
  const stream = new Stream(`events/${kind}/${name}`, { detail: (data) => tell(JSON.parse(data)) }, () => {});
  return () => stream.end();
}
