// The page: where one is, what is above everything, and which page is below it.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { seconds } from "./format";
import { LinkPage } from "./link";
import { type Live, watchAll } from "./live";
import { type Everything, linkSeverity, linkWord } from "./model";
import { Overview } from "./overview";
import { ServicePage } from "./service";
import { ServicesPage } from "./services";
import { applyTheme, nextTheme, type Theme, theme } from "./theme";

function useRoute(): string[] {
  const read = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  const [route, go] = useState(read);
  useEffect(() => {
    const follow = () => {
      go(read());
      document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

/** A time that goes on each second, for what is said relative to it. */
function useNow(): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function Page({ route, all, now }: { route: string[]; all: Everything; now: number }) {
  const [kind, first, second] = route;
  switch (kind) {
    case undefined:
      return <Overview all={all} now={now} />;
    case "services":
      return <ServicesPage services={all.services} />;
    case "service":
      return <ServicePage key={`${first}/${second}`} name={`${first}/${second}`} all={all} />;
    case "link":
      return <LinkPage key={first} cluster={first ?? ""} all={all} now={now} />;
    default:
      return <p class="empty">There is no such page. <a href="#/">Overview</a></p>;
  }
}

function Trouble({ live, now }: { live: Live; now: number }) {
  const { all, lost, heard } = live;
  const silence = (now - heard) / 1000;
  const isSilent = all !== null && silence > Math.max(5, (3 * all.head.period_ms) / 1000);
  const lines: preact.ComponentChild[] = [];
  if (lost || isSilent) {
    const since = heard ? ` What is shown is ${seconds(silence)} old.` : "";
    lines.push(<>Not live: {lost ?? "nothing comes from the gateway"}.{since}</>);
  }
  if (all && !all.head.ready) lines.push(<>Not ready: {all.head.not_ready}.</>);
  if (all && all.head.silent_cores.length > 0) lines.push(<>Cores that do not answer: {all.head.silent_cores.join(", ")}.</>);
  const identity = all?.head.identity;
  const wrong = identity?.message ?? identity?.last_error;
  if (wrong) lines.push(<>Identity: {wrong}</>);
  const broken = all ? Object.values(all.links).filter((link) => linkSeverity(link) === 2) : [];
  for (const link of broken.slice(0, 3)) {
    lines.push(
      <>
        Link to <a href={`#/link/${link.cluster}`}>{link.cluster}</a>: <strong>{linkWord(link)}</strong>
        {link.message ? ` – ${link.message}` : ""}
      </>,
    );
  }
  if (broken.length > 3) lines.push(<><a href="#/">{broken.length - 3} more links</a> are broken.</>);
  return (
    <div class="trouble" role="alert">
      {lines.map((line, i) => <p key={i}>{line}</p>)}
    </div>
  );
}

function Console() {
  const [live, tell] = useState<Live>({ all: null, heard: 0, lost: null });
  const [look, choose] = useState<Theme>(theme());
  useEffect(() => watchAll(tell), []);
  const route = useRoute();
  const now = useNow();
  const { all } = live;
  const at = route[0];
  const tab = (here: boolean) => (here ? "page" : undefined);
  const change = () => {
    const next = nextTheme(look);
    applyTheme(next);
    choose(next);
  };
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("main")?.focus(); }}>To the content</a>
      <header>
        <a class="brand" href="#/">Isthmus</a>
        {all && <span class="where"><strong>{all.head.cluster}</strong> of {all.head.clusterset}</span>}
        <nav aria-label="Pages">
          <a href="#/" aria-current={tab(at === undefined || at === "link")}>Links{all ? ` ${Object.keys(all.links).length}` : ""}</a>
          <a href="#/services" aria-current={tab(at === "services" || at === "service")}>Services{all ? ` ${Object.keys(all.services).length}` : ""}</a>
        </nav>
        <button type="button" class="quiet" onClick={change} aria-label={`Colours: ${look}. Change`}>{look}</button>
      </header>
      <Trouble live={live} now={now} />
      <main id="main" tabIndex={-1}>
        {all ? <Page route={route} all={all} now={now} /> : <p class="empty">{live.lost ? "No word from the gateway yet." : "Asking the gateway…"}</p>}
      </main>
      {all && <footer>gateway {all.head.gateway} · version {all.head.version} · table {all.head.table_version}</footer>}
    </>
  );
}

applyTheme(theme());
const root = document.getElementById("console");
if (root) render(<Console />, root);
