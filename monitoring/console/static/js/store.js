/**
 * What this page knows, and the stream that it comes from.
 *
 * Rule 1. The browser's own EventSource resumes with Last-Event-ID; what could not be resumed is counted and shown.
 * Rule 2. Views are told at most five times a second, in a flood twice, in an animation frame: more alerts cost no more.
 * Rule 3. At most KEPT alerts are kept; what one holds is replaced, never changed in place.
 */
import { useEffect, useState } from "../vendor/preact-htm.js";

const KEPT = 2000;
const TOLD_EVERY_MS = 200;
const TOLD_IN_A_FLOOD_MS = 500;
const FLOOD = 30; // alerts since views were told
const STALE_MS = 25000;

export const state = {
  connection: "connecting", // live, lost
  alerts: [], // newest first
  byId: new Map(),
  total: 0, // since this page was opened
  lost: 0,
  pulse: null,
  pulseAt: 0,
  points: [],
  training: [],
  deadLetters: null,
  systemAlerts: null,
  session: null,
  sessionFault: null,
  toasts: [],
};

const listeners = new Set();
let toldAt = 0;
let due = 0;
let untold = 0;

function tell() {
  due = 0;
  untold = 0;
  toldAt = performance.now();
  for (const listener of listeners) listener();
}

export function changed() {
  if (due) return;
  const wait = Math.max(0, (untold > FLOOD ? TOLD_IN_A_FLOOD_MS : TOLD_EVERY_MS) - (performance.now() - toldAt));
  // A page in the background gets no animation frames, and needs none.
  due = setTimeout(() => (document.hidden ? tell() : requestAnimationFrame(tell)), wait);
}

/** Draw again whenever the state has changed. */
export function useStore() {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = () => draw((n) => n + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return state;
}

function addAlerts(alerts, arrived = 0) {
  const fresh = alerts.filter((each) => !state.byId.has(each.alert_id)).reverse();
  if (!fresh.length) return;
  for (const each of fresh) state.byId.set(each.alert_id, Object.assign(each, { arrived: fresh.length > FLOOD ? 0 : arrived }));
  untold += fresh.length;
  state.total += fresh.length;
  state.alerts = [...fresh, ...state.alerts];
  for (const gone of state.alerts.splice(KEPT)) state.byId.delete(gone.alert_id);
}

function overlay(known) {
  const fresh = new Map();
  for (const each of known) {
    const before = state.byId.get(each.alert_id);
    if (before) fresh.set(each.alert_id, { ...before, ...each });
  }
  if (!fresh.size) return;
  for (const [id, alert] of fresh) state.byId.set(id, alert);
  state.alerts = state.alerts.map((each) => fresh.get(each.alert_id) ?? each);
}

function pulse(values) {
  state.pulse = values;
  state.pulseAt = Date.now();
  const newest = state.points[state.points.length - 1];
  if (values.point && (!newest || newest[0] < values.point[0])) state.points = [...state.points.slice(-899), values.point];
}

const take = {
  hello(values) {
    if (state.connection === "lost") openSession(); // the console may have been started again: its token is another
    if (values.reset) {
      state.alerts = [];
      state.byId = new Map();
      state.total = 0;
    }
    addAlerts(values.alerts);
    overlay(values.known);
    state.lost += values.lost;
    state.training = values.training;
    state.systemAlerts = values.system_alerts;
    if (values.pulse) pulse(values.pulse);
    state.connection = "live";
  },
  alerts: (values) => addAlerts(values.alerts, Date.now()),
  known: (values) => overlay(values.known),
  dropped: (values) => (state.lost += values.alerts),
  pulse,
  world(values) {
    if (state.pulse) state.pulse = { ...state.pulse, world: values, wall_ms: Date.now() };
  },
  training: (step) => (state.training = [...state.training, step].slice(-200)),
  "system-alerts": (values) => (state.systemAlerts = values),
  "dead-letters"(values) {
    if (!state.deadLetters) return;
    const ids = new Set(values.dead_letters.map((each) => each.letter_id));
    const fresh = [...values.dead_letters].reverse();
    state.deadLetters = [...fresh, ...state.deadLetters.filter((each) => !ids.has(each.letter_id))].slice(0, 500);
  },
};

let source = null;
let lastId = "";

function follow() {
  source?.close();
  source = new EventSource(lastId ? `/api/stream?since=${encodeURIComponent(lastId)}` : "/api/stream");
  source.onerror = () => {
    state.connection = "lost";
    changed();
    // A closed source does not try again by itself: it was refused, not lost.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
  for (const [name, handler] of Object.entries(take)) {
    source.addEventListener(name, (event) => {
      if (event.lastEventId) lastId = event.lastEventId;
      handler(JSON.parse(event.data));
      state.connection = "live";
      changed();
    });
  }
}

export const isStale = () => state.pulseAt > 0 && Date.now() - state.pulseAt > STALE_MS;

/** Get JSON. Throws an Error whose message is the server's own reason. */
export async function get(path) {
  return answer(await fetch(path, { headers: { accept: "application/json" } }));
}

/** A change. Throws an Error whose message is the server's own reason. */
export async function post(path, body = {}) {
  const send = () =>
    fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-console-token": state.session?.token ?? "" },
      body: JSON.stringify(body),
    });
  if (!state.session) await openSession();
  let response = await send();
  if (response.status === 403) {
    // Nothing was changed: the console was started again and has another token. With that one it is asked once more.
    await openSession();
    response = await send();
  }
  return answer(response);
}

async function answer(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    /* told by the status */
  }
  if (response.ok) return body;
  const detail = body?.detail;
  throw new Error(typeof detail === "string" ? detail : detail?.[0]?.msg ?? `the console answered ${response.status}`);
}

async function openSession() {
  try {
    state.session = await get("/api/session");
    state.sessionFault = null;
  } catch (error) {
    state.sessionFault = error.message;
    setTimeout(openSession, 3000);
  }
  changed();
}

/** Say something for a while. kind: good, bad. */
export function say(text, kind = "good") {
  const toast = { text, kind, id: Math.random() };
  state.toasts = [...state.toasts.slice(-3), toast];
  setTimeout(() => {
    state.toasts = state.toasts.filter((each) => each !== toast);
    changed();
  }, 6000);
  changed();
}

export function words(code) {
  const found = state.session?.words[code];
  return found ?? { title: code.replaceAll("_", " ").toLowerCase(), meaning: "", unit: "" };
}

export function open() {
  openSession();
  follow();
  get("/api/history").then((found) => {
    const newest = found.points.at(-1)?.[0] ?? 0;
    state.points = [...found.points, ...state.points.filter((point) => point[0] > newest)].slice(-900);
    changed();
  }, () => {});
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && follow());
}
