/**
 * One alert, opened: why, against what the card did before, and a person's verdict.
 *
 * Rule 1. A verdict is shown as given when the log has it, not when the button was pressed.
 * Rule 2. Contributions are in log-odds, the unit in which they add up to the score.
 */
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Label, OtherScores } from "./live.js";
import { Fault, Loading, Pill, Score, Spark, useLoaded, useWidth } from "./parts.js";
import { get, post, say, state, useStore, words } from "./store.js";

const BARS = 10;
const AGAIN_MS = 3000;

function Verdict({ alert }) {
  const [sending, setSending] = useState(null);
  const [asked, setAsked] = useState(false);
  const send = async (verdict) => {
    setSending(verdict);
    try {
      await post(`/api/alerts/${encodeURIComponent(alert.alert_id)}/disposition`, { verdict });
      setAsked(true);
      say(verdict === "confirmed" ? "Confirmed as fraud. It becomes a label while the world is live." : "Dismissed as genuine. It becomes a label while the world is live.");
    } catch (error) {
      say(error.message, "bad");
    }
    setSending(null);
  };
  if (alert.verdict) {
    return html`<p class="verdict"><${Pill} kind="info">${alert.verdict}<//> by a person${known(alert) ? html`; the label says <${Label} alert=${alert} />` : ", the label is on its way"}</p>`;
  }
  const busy = sending !== null || asked;
  return html`<div class="row verdict">
    <button class="danger" disabled=${busy} onClick=${() => send("confirmed")}>${sending === "confirmed" ? "Sending …" : "Confirm fraud"}</button>
    <button disabled=${busy} onClick=${() => send("dismissed")}>${sending === "dismissed" ? "Sending …" : "Dismiss"}</button>
    ${known(alert) && html`<span>label: <${Label} alert=${alert} /></span>`}
  </div>`;
}

const known = (alert) => format.known(alert.is_fraud);

/** What each feature adds to the score, the largest first; what remains is one bar. */
function Contributions({ explanation, features }) {
  const values = new Map(features.map((each) => [each.name, each.value]));
  const sorted = Object.entries(explanation.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const largest = sorted.slice(0, BARS);
  const rest = sorted.slice(BARS).reduce((sum, [, value]) => sum + value, 0);
  const rows = [...largest.map(([name, value]) => ({ ...words(name.toUpperCase()), name, value, of: values.get(name) })), { title: `the other ${sorted.length - BARS} features`, value: rest, rest: true }];
  const most = Math.max(...rows.map((row) => Math.abs(row.value)), 0.001);
  const total = explanation.bias + sorted.reduce((sum, [, value]) => sum + value, 0);
  return html`<div>
    <ul class="bars">
      ${rows.map(
        (row) => html`<li key=${row.title} title=${row.meaning}>
          <span class="bar-name">${row.title}${!row.rest && html`<small>${format.feature(row.of, row.unit)}</small>`}</span>
          <span class="bar-track" aria-hidden="true"><span class=${row.value >= 0 ? "bar up" : "bar down"} style=${row.value >= 0 ? { left: "50%", width: `${(row.value / most) * 50}%` } : { right: "50%", width: `${(-row.value / most) * 50}%` }}></span></span>
          <span class="bar-value">${row.value >= 0 ? "+" : "−"}${format.number(Math.abs(row.value))}</span>
        </li>`,
      )}
    </ul>
    <p class="muted small">In log-odds: ${format.number(explanation.bias)} before any feature, ${format.number(total)} in all. To the right raises the score, to the left lowers it.</p>
  </div>`;
}

/** The card's payments of the last 30 days, this one marked. */
function History({ points, alert }) {
  const [box, width] = useWidth(420);
  if (points.length < 2) return html`<p class="muted small">No earlier payment of this card in 30 days.</p>`;
  const height = 150;
  const pad = { left: 46, right: 10, top: 10, bottom: 24 };
  const from = points[0].occurred_at_ms;
  const span = Math.max(1, alert.occurred_at_ms - from);
  const top = Math.max(...points.map((point) => point.amount_minor), 1);
  const x = (ms) => pad.left + ((ms - from) / span) * (width - pad.left - pad.right);
  const y = (minor) => height - pad.bottom - Math.sqrt(minor / top) * (height - pad.top - pad.bottom);
  const ticks = [0, top / 4, top];
  return html`<figure class="history" ref=${box}>
    <svg viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${`${points.length} payments of this card since ${format.eventMinute(from)}, event time; this one is ${format.money(alert.amount_minor)}, the largest ${format.money(top)}`}>
      ${ticks.map((tick) => html`<g key=${tick}><line class="grid" x1=${pad.left} x2=${width - pad.right} y1=${y(tick)} y2=${y(tick)} /><text x=${pad.left - 6} y=${y(tick) + 4} text-anchor="end">${format.money(tick, "EUR", 0)}</text></g>`)}
      ${points.map((point) => {
        const own = point.transaction_id === alert.transaction_id;
        return html`<g key=${point.transaction_id} class=${own ? "own" : ""}><line x1=${x(point.occurred_at_ms)} x2=${x(point.occurred_at_ms)} y1=${y(0)} y2=${y(point.amount_minor)} /><circle cx=${x(point.occurred_at_ms)} cy=${y(point.amount_minor)} r=${own ? 5 : 2.6}><title>${`${format.eventMoment(point.occurred_at_ms)} UTC: ${format.money(point.amount_minor)} at ${point.terminal_id}`}</title></circle></g>`;
      })}
      <text x=${pad.left} y=${height - 6}>${format.eventDay(from)}</text>
      <text x=${width - pad.right} y=${height - 6} text-anchor="end">${format.eventMinute(alert.occurred_at_ms)}</text>
    </svg>
    <figcaption class="muted small">${points.length} payments of this card, event time; amounts on a square-root scale.</figcaption>
  </figure>`;
}

function Features({ features, explanation }) {
  const [all, setAll] = useState(false);
  const weight = (name) => Math.abs(explanation?.contributions[name] ?? 0);
  const sorted = explanation ? [...features].sort((a, b) => weight(b.name) - weight(a.name)) : features;
  const rows = all ? sorted : sorted.slice(0, 12);
  return html`<div>
    <table class="features">
      <caption class="hidden">Features of this transaction, with the card's recent values</caption>
      <thead><tr><th scope="col">Feature</th><th scope="col" class="number">Now</th><th scope="col">The card's recent payments</th></tr></thead>
      <tbody>
        ${rows.map((each) => {
          const told = words(each.name.toUpperCase());
          return html`<tr key=${each.name}><th scope="row" title=${`${each.name}: ${told.meaning}`}>${told.title}</th><td class="number">${format.feature(each.value, told.unit)}</td><td><${Spark} values=${each.recent} label=${`${told.title}, the card's last ${each.recent.length} payments`} /></td></tr>`;
        })}
      </tbody>
    </table>
    ${features.length > rows.length && html`<button class="quiet" onClick=${() => setAll(true)}>All ${features.length} features</button>`}
  </div>`;
}

const FACTS = [
  ["transaction_id", "transaction"], ["card_id", "card"], ["terminal_id", "terminal"], ["merchant_id", "merchant"], ["mcc", "category (MCC)"],
  ["country", "country"], ["channel", "channel"], ["device_id", "device"],
];

function Facts({ alert, transaction }) {
  const of = { ...alert, ...(transaction ?? {}) };
  const place = format.known(of.latitude_cdeg) ? `${format.number(of.latitude_cdeg / 100)}°, ${format.number(of.longitude_cdeg / 100)}°` : null;
  return html`<dl class="facts">
    <div><dt>happened</dt><dd>${format.eventMoment(alert.occurred_at_ms)} UTC <small>event time</small></dd></div>
    <div><dt>scored</dt><dd>${format.wallTime(alert.scored_at_ms)} <small>wall time</small></dd></div>
    ${FACTS.filter(([name]) => format.known(of[name])).map(([name, label]) => html`<div key=${name}><dt>${label}</dt><dd>${String(of[name])}</dd></div>`)}
    ${place && html`<div><dt>place</dt><dd>${place}</dd></div>`}
    <div><dt>decided by</dt><dd>${alert.model_version}</dd></div>
    <div><dt>stands at</dt><dd>transactions/${alert.alert_id.replace("-", ", offset ")}</dd></div>
  </dl>`;
}

function Similar({ alerts, onOpen }) {
  if (!alerts.length) return html`<p class="muted small">No kept alert shares a reason, the card or the terminal.</p>`;
  return html`<ul class="similar">
    ${alerts.map((each) => html`<li key=${each.alert_id}><button class="link" onClick=${() => onOpen(each.alert_id)}>${format.money(each.amount_minor, each.currency)}</button><span>${each.card_id}</span><span class="muted">${format.eventMinute(each.occurred_at_ms)}</span><${Label} alert=${each} /></li>`)}
  </ul>`;
}

export function Alert({ alertId, onClose, onOpen }) {
  useStore();
  const heading = useRef(null);
  const { value, fault, again } = useLoaded(() => get(`/api/alerts/${encodeURIComponent(alertId)}`), [alertId]);
  const alert = state.byId.get(alertId) ?? value?.alert;
  useEffect(() => heading.current?.focus({ preventScroll: true }), [alertId, Boolean(alert)]);
  // The lake is a few seconds behind: look again until it has the vector.
  useEffect(() => {
    if (!value?.absent) return undefined;
    const timer = setTimeout(again, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return html`<aside class="drawer" aria-labelledby="alert-title">
    <header class="drawer-head">
      <h2 id="alert-title" ref=${heading} tabindex="-1">${alert ? html`${format.money(alert.amount_minor, alert.currency)} <span class="muted">card</span> ${alert.card_id}` : "Alert"}</h2>
      <button class="quiet" onClick=${onClose} aria-label="Close this alert">✕</button>
    </header>
    ${!alert && !fault && html`<${Loading} what="Opening the alert" />`}
    ${fault && html`<${Fault} text=${fault} again=${again} />`}
    ${alert &&
    html`<div class="drawer-body">
      <div class="row"><${Score} value=${alert.score} /><${Pill} kind=${alert.decision === "decline" ? "strong" : "warn"}>${alert.decision}<//><${OtherScores} scores=${alert.other_scores} /></div>
      <${Verdict} alert=${alert} />
      <h3>Reasons</h3>
      ${alert.reason_codes.length ? html`<ul class="told">${alert.reason_codes.map((code) => html`<li key=${code}><strong>${words(code).title}</strong><span class="muted">${words(code).meaning}</span></li>`)}</ul>` : html`<p class="muted small">No feature raised the score by itself.</p>`}
      ${value?.absent && html`<p class="notice">${value.absent}. This page looks again by itself.</p>`}
      ${value?.explanation && html`<h3>What makes the score</h3><${Contributions} explanation=${value.explanation} features=${value.features} />`}
      ${value?.unexplained && html`<p class="muted small">No contributions: ${value.unexplained}.</p>`}
      ${value && value.history.length > 0 && html`<h3>The card before this</h3><${History} points=${value.history} alert=${alert} />`}
      ${value && value.features.length > 0 && html`<h3>Features</h3><${Features} features=${value.features} explanation=${value.explanation} />`}
      <h3>Transaction</h3>
      <${Facts} alert=${alert} transaction=${value?.transaction} />
      ${value && html`<h3>Similar alerts</h3><${Similar} alerts=${value.similar} onOpen=${onOpen} />`}
    </div>`}
  </aside>`;
}
