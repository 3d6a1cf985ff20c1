/**
 * Live: the alerts as they come; filter, pause, open one.
 *
 * Rule 1. A pause freezes what is shown; what comes meanwhile is counted, and there when it ends.
 * Rule 2. A row is drawn again only when its alert is another.
 */
import { Component, html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { Alert } from "./alert.js";
import * as format from "./format.js";
import { Empty, Pill, Score } from "./parts.js";
import { state, useStore, words } from "./store.js";

const SHOWN = 60;
const NOTHING = { text: "", decision: "", label: "", amount: "" };

function matches(filter) {
  const needle = filter.text.trim().toLowerCase();
  const least = Number(filter.amount) * 100 || 0;
  return (alert) => {
    if (filter.decision && alert.decision !== filter.decision) return false;
    if (filter.label && labelOf(alert) !== filter.label) return false;
    if (alert.amount_minor < least) return false;
    if (!needle) return true;
    const text = [alert.card_id, alert.terminal_id, alert.transaction_id, alert.alert_id, alert.model_version, ...alert.reason_codes.map((code) => `${code} ${words(code).title}`)];
    return text.join(" ").toLowerCase().includes(needle);
  };
}

export function labelOf(alert) {
  if (alert.is_fraud !== null && alert.is_fraud !== undefined) return alert.is_fraud ? "fraud" : "genuine";
  return alert.verdict ? "judged" : "unknown";
}

export function Label({ alert }) {
  const kind = labelOf(alert);
  if (kind === "fraud") return html`<${Pill} kind="bad" title=${`label by ${alert.label_source}`}>fraud<//>`;
  if (kind === "genuine") return html`<${Pill} kind="good" title=${`label by ${alert.label_source}`}>genuine<//>`;
  if (kind === "judged") return html`<${Pill} kind="info">${alert.verdict}<//>`;
  return html`<span class="muted small">not yet</span>`;
}

export function OtherScores({ scores }) {
  const names = Object.keys(scores ?? {});
  if (!names.length) return null;
  return html`<span class="others">${names.map((name) => html`<span key=${name}>${name} ${format.score(scores[name])}</span>`)}</span>`;
}

class Row extends Component {
  shouldComponentUpdate(next) {
    return next.alert !== this.props.alert || next.selected !== this.props.selected || next.session !== this.props.session;
  }
  render({ alert, selected, onOpen }) {
    const codes = alert.reason_codes;
    const open = () => onOpen(alert.alert_id);
    return html`<tr class=${`${selected ? "selected" : ""} ${Date.now() - alert.arrived < 1500 ? "fresh" : ""}`} data-alert=${alert.alert_id} onClick=${open}>
      <td class="when" data-label="event time"><time title=${`${format.eventMoment(alert.occurred_at_ms)} UTC, event time; scored at ${format.wallTime(alert.scored_at_ms)}, wall time`}>${format.eventTime(alert.occurred_at_ms)}<small>${format.eventDay(alert.occurred_at_ms)}</small></time></td>
      <td class="number amount" data-label="amount">${format.money(alert.amount_minor, alert.currency)}</td>
      <td data-label="card"><button class="link" onClick=${(event) => (event.stopPropagation(), open())} aria-label=${`Open the alert of card ${alert.card_id}, ${format.money(alert.amount_minor, alert.currency)}`}>${alert.card_id}</button></td>
      <td data-label="score"><${Score} value=${alert.score} /><${OtherScores} scores=${alert.other_scores} /></td>
      <td data-label="decision"><${Pill} kind=${alert.decision === "decline" ? "strong" : "warn"}>${alert.decision}<//></td>
      <td class="reasons" data-label="why">${codes.slice(0, 2).map((code) => html`<span class="reason" key=${code} title=${words(code).meaning}>${words(code).title}</span>`)}${codes.length > 2 && html`<span class="muted small">and ${codes.length - 2} more</span>`}${!codes.length && html`<span class="muted small">no single reason</span>`}</td>
      <td data-label="label"><${Label} alert=${alert} /></td>
    </tr>`;
  }
}

function Filter({ filter, onChange, input }) {
  const set = (name) => (event) => onChange({ ...filter, [name]: event.target.value });
  const active = JSON.stringify(filter) !== JSON.stringify(NOTHING);
  return html`<form class="filter" role="search" onSubmit=${(event) => event.preventDefault()}>
    <label class="grow"><span class="hidden">Search alerts</span><input ref=${input} type="search" placeholder="Card, terminal, transaction or reason" value=${filter.text} onInput=${set("text")} /></label>
    <label><span class="hidden">Decision</span><select value=${filter.decision} onChange=${set("decision")}><option value="">Any decision</option><option value="review">Review</option><option value="decline">Decline</option></select></label>
    <label><span class="hidden">Label</span><select value=${filter.label} onChange=${set("label")}><option value="">Any label</option><option value="unknown">Not known yet</option><option value="judged">Judged by a person</option><option value="fraud">Fraud</option><option value="genuine">Genuine</option></select></label>
    <label class="least"><span class="hidden">Least amount in euro</span><input type="number" min="0" step="1" inputmode="decimal" placeholder="€ at least" value=${filter.amount} onInput=${set("amount")} /></label>
    ${active && html`<button type="button" class="quiet" onClick=${() => onChange(NOTHING)}>Clear</button>`}
  </form>`;
}

function Nothing({ filtered }) {
  if (state.connection === "connecting") return html`<${Empty} title="Connecting">The alerts come in a moment.<//>`;
  if (filtered) return html`<${Empty} title="No alert matches">${format.count(state.alerts.length)} alerts are here; the filter hides them all.<//>`;
  return html`<${Empty} title="No alert yet">
    <p>An alert appears here within a second of its score. Start a world with <code>fraudstream demo</code>, or start a scenario on the page World.</p>
  <//>`;
}

/** Keys: / filter, p pause, j and k or arrows move, Enter opens, Escape closes. */
function useKeys(rows, open, onOpen, onPause, input) {
  useEffect(() => {
    const pressed = (event) => {
      const typing = event.target.closest("input, select, textarea, dialog");
      if (event.key === "Escape" && typing === input.current) input.current.blur();
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      const at = rows.findIndex((row) => row.alert_id === open);
      const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (event.key === "/") input.current?.focus();
      else if (event.key === "p") onPause();
      else if (event.key === "Escape" && open) onOpen(null);
      else if (step && rows.length && !event.target.closest(".drawer")) onOpen(rows[Math.min(rows.length - 1, Math.max(0, at + step))].alert_id);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [rows, open]);
}

export function Live() {
  useStore();
  const [filter, setFilter] = useState(NOTHING);
  const [frozen, setFrozen] = useState(null);
  const [shown, setShown] = useState(SHOWN);
  const [open, setOpen] = useState(new URLSearchParams(location.search).get("alert"));
  const input = useRef(null);
  const all = frozen ? frozen.alerts.map((each) => state.byId.get(each.alert_id) ?? each) : state.alerts;
  const found = all.filter(matches(filter));
  const rows = found.slice(0, shown);
  const waiting = frozen ? state.total - frozen.total : 0;
  const pause = () => setFrozen((before) => (before ? null : { alerts: state.alerts, total: state.total }));
  const choose = (alertId) => {
    setOpen(alertId);
    history.replaceState(null, "", alertId ? `/live?alert=${encodeURIComponent(alertId)}` : "/live");
  };
  useKeys(rows, open, choose, pause, input);
  return html`<div class=${`live ${open ? "with-drawer" : ""}`}>
    <div class="live-list">
      <div class="page-head">
        <h1>Alerts</h1>
        <p class="muted">${frozen ? html`Paused; ${format.count(waiting)} more have come` : `${format.count(found.length)} shown of ${format.count(state.alerts.length)} kept here, newest first`}</p>
        <button class=${frozen ? "primary" : ""} aria-pressed=${Boolean(frozen)} onClick=${pause} title="key p">${frozen ? "Go on" : "Pause"}</button>
      </div>
      <${Filter} filter=${filter} onChange=${setFilter} input=${input} />
      ${rows.length
        ? html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table class="alerts">
            <caption class="hidden">Alerts, newest first. Times are event time, UTC.</caption>
            <thead><tr><th scope="col">Event time, UTC</th><th scope="col" class="number">Amount</th><th scope="col">Card</th><th scope="col">Score</th><th scope="col">Decision</th><th scope="col">Why</th><th scope="col">Label</th></tr></thead>
            <tbody>${rows.map((alert) => html`<${Row} key=${alert.alert_id} alert=${alert} selected=${alert.alert_id === open} session=${state.session} onOpen=${choose} />`)}</tbody>
          </table></div>
          ${found.length > rows.length && html`<p class="more"><button onClick=${() => setShown(shown + 100)}>Show older</button></p>`}`
        : html`<${Nothing} filtered=${state.alerts.length > 0} />`}
      <p class="keys muted small" aria-label="Keys"><kbd>/</kbd> filter <kbd>p</kbd> pause <kbd>j</kbd> <kbd>k</kbd> move <kbd>Esc</kbd> close</p>
    </div>
    ${open && html`<${Alert} key=${open} alertId=${open} onClose=${() => choose(null)} onOpen=${choose} />`}
  </div>`;
}
