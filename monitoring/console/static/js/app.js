/**
 * The shell: navigation, the line of vital signs, and one page at a time.
 *
 * Rule 1. A page is loaded when it is opened, and only then.
 * Rule 2. Whether what is shown is live, late or lost stands on every page.
 */
import { html, render, useEffect, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Live } from "./live.js";
import { Fault, Loading, Shield } from "./parts.js";
import { isStale, open, state, useStore } from "./store.js";

const PAGES = [
  { path: "live", name: "Live", icon: "M3 12h4l3-8 4 16 3-8h4", load: async () => Live },
  { path: "paths", name: "Two paths", icon: "M4 18c6 0 6-12 16-12M4 6c6 0 6 12 16 12", load: async () => (await import("./paths.js")).Paths },
  { path: "models", name: "Models", icon: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5", load: async () => (await import("./models.js")).Models },
  { path: "world", name: "World", icon: "M12 3a9 9 0 100 18 9 9 0 000-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18", load: async () => (await import("./world.js")).World },
  { path: "health", name: "Health", icon: "M12 20s-8-5-8-11a4.5 4.5 0 018-2.8A4.5 4.5 0 0120 9c0 6-8 11-8 11z", load: async () => (await import("./health.js")).Health },
  { path: "budget", name: "Budget", icon: "M4 20V10M10 20V4M16 20v-7M22 20H2", load: async () => (await import("./budget.js")).Budget },
  { path: "break", name: "Break it", icon: "M13 2L4 14h7l-1 8 9-12h-7z", load: async () => (await import("./break.js")).Break },
];

const pageOf = () => PAGES.find((page) => page.path === location.pathname.slice(1)) ?? PAGES[0];

/** In place of a page whose code could not be had. */
function Unreachable() {
  return html`<${Fault} text="This page could not be loaded: the console did not answer." again=${() => location.reload()} />`;
}

/** Go to an address of the console without loading it anew. */
export function go(url) {
  history.pushState(null, "", url);
  dispatchEvent(new PopStateEvent("popstate"));
}

function Navigation({ current }) {
  const follow = (event, page) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(`/${page.path}`);
  };
  return html`<nav class="rail" aria-label="Pages">
    <div class="brand"><img src="/static/icon.svg" alt="" width="28" height="28" /><span>fraudstream</span></div>
    <ul>
      ${PAGES.map(
        (page) => html`<li key=${page.path}>
          <a href=${`/${page.path}`} aria-current=${page === current ? "page" : undefined} onClick=${(event) => follow(event, page)}>
            <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d=${page.icon} /></svg><span>${page.name}</span>
          </a>
        </li>`,
      )}
    </ul>
    <${Theme} />
  </nav>`;
}

function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "auto");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
    dispatchEvent(new Event("themechange"));
  }, [theme]);
  const next = { auto: "light", light: "dark", dark: "auto" }[theme];
  return html`<button class="theme quiet" onClick=${() => setTheme(next)} aria-label=${`Colours: ${theme}. Change to ${next}`}>
    <svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><circle cx="12" cy="12" r="8" /><path class="half" d="M12 4a8 8 0 010 16z" /></svg>
    <span>${{ auto: "Auto", light: "Light", dark: "Dark" }[theme]}</span>
  </button>`;
}

function Connection() {
  const stale = isStale();
  const kind = state.connection === "live" ? (stale ? "warn" : "good") : state.connection === "connecting" ? "" : "bad";
  const text = { live: stale ? "Stale" : "Live", connecting: "Connecting", lost: "Disconnected" }[state.connection];
  return html`<span class="connection ${kind}" role="status"><span class="dot" aria-hidden="true"></span>${text}</span>`;
}

function Vitals() {
  const { pulse } = useStore();
  const signs = pulse?.vitals;
  const clock = pulse?.world?.clock;
  // A history that goes by at full speed does not move the simulated clock.
  const eventMs = !clock ? signs?.event_time_ms : clock.paused ? Math.max(clock.event_ms, signs?.event_time_ms ?? 0) : clock.event_ms;
  return html`<header class="vitals">
    <${Connection} />
    <dl>
      <div><dt>event time</dt><dd>${format.eventMinute(eventMs)}${format.known(eventMs) && " UTC"}${clock && html`<small>${clock.paused ? " paused" : ` ${format.number(clock.speed, 0)}×`}</small>`}</dd></div>
      <div><dt>scored</dt><dd>${format.rate(signs?.scored_per_s)}${format.known(signs?.scored_per_s) && html` <small>tx/s</small>`}</dd></div>
      <div><dt>in log to score, p95</dt><dd>${format.duration(signs?.end_to_end_s.p95)}</dd></div>
      <div><dt>lag to score</dt><dd>${format.duration(signs?.lag_to_score_s)}</dd></div>
      <div class="optional"><dt>decides</dt><dd>${signs?.model ?? "–"}</dd></div>
    </dl>
  </header>`;
}

function Notices() {
  useStore();
  const faults = Object.values(state.pulse?.faults ?? {});
  const broken = Object.keys(state.pulse?.world?.switches ?? {});
  return html`
    ${broken.length > 0 && html`<p class="notice bad broken" role="status"><strong>Broken on purpose: ${broken.join(", ")}.</strong> What is served or learned now is wrong in that way. <a href="/break" onClick=${(event) => (event.preventDefault(), go("/break"))}>Switch it off on Break it</a></p>`}
    ${state.connection === "lost" && html`<p class="notice bad" role="alert">The console does not answer. What you see is as of ${format.wallTime(state.pulseAt)}, your time; it goes on by itself where it stopped.</p>`}
    ${state.connection === "live" && isStale() && html`<p class="notice warn">The numbers are as of ${format.wallTime(state.pulseAt)}, your time: nothing newer has come.</p>`}
    ${faults.map((fault) => html`<p class="notice warn" key=${fault}>${fault}. The console keeps trying.</p>`)}
    ${state.lost > 0 && html`<p class="notice warn">${format.count(state.lost)} alerts went by that are not shown here: they came faster than this page could take them, or while it was away for long. <button class="link" onClick=${() => location.reload()}>Load the newest</button></p>`}
  `;
}

function Toasts() {
  const { toasts } = useStore();
  return html`<div class="toasts" aria-live="polite">${toasts.map((toast) => html`<p key=${toast.id} class="toast ${toast.kind}">${toast.text}</p>`)}</div>`;
}

function App() {
  const [page, setPage] = useState(pageOf());
  const [view, setView] = useState({ page: PAGES[0], View: Live });
  useEffect(() => {
    const moved = () => setPage(pageOf());
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  useEffect(() => {
    document.title = `${page.name} · fraudstream`;
    page.load().then(
      (View) => setView({ page, View }),
      () => setView({ page, View: Unreachable }), // the console went away, or the reader is about to
    );
  }, [page]);
  return html`<div class="shell">
    <${Navigation} current=${page} />
    <div class="column">
      <${Vitals} />
      <${Notices} />
      <main id="main" tabindex="-1">
        ${view.page === page ? html`<${Shield} key=${page.path}><${view.View} /><//>` : html`<${Loading} what=${page.name} />`}
      </main>
    </div>
    <${Toasts} />
  </div>`;
}

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
open();
