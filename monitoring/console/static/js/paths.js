/**
 * Two paths: what streaming and batch have delivered on the same matured transactions.
 *
 * Rule 1. Only mature days are measured; what is not mature yet is drawn as such.
 */
import { html } from "../vendor/preact-htm.js";
import { Chart } from "./chart.js";
import * as format from "./format.js";
import { Card, Empty, Fault, Loading, useLoaded } from "./parts.js";
import { get, useStore } from "./store.js";

const COLOURS = ["accent", "bad", "good", "warn", "muted"];
const MEASURES = [["ap", "average precision"], ["auc", "AUC"], ["card_precision", "card precision at the budget"], ["precision", "precision at the budget"], ["recall", "recall at the budget"]];
const name = (each) => `${each.path}, ${each.version}`;

function Maturity({ value }) {
  const evaluated = value.to_ms - value.from_ms;
  const waiting = Math.max(0, value.now_ms - value.to_ms);
  const day = 86400e3;
  return html`<div>
    <div class="scale" role="img" aria-label=${`${format.number(evaluated / day, 0)} days are evaluated, ${format.number(waiting / day, 1)} days are not mature yet`}>
      <span class="ready" style=${{ flex: evaluated }}>evaluated: ${format.eventDay(value.from_ms)} to ${format.eventDay(value.to_ms)}</span>
      <span class="not" style=${{ flex: waiting }}>not mature: labels need ${format.number(value.horizon_ms / day, 0)} days</span>
    </div>
    <p class="muted small">Event time, UTC; now ${format.eventMinute(value.now_ms)}.</p>
  </div>`;
}

function Curves({ delivered }) {
  const drawn = delivered.filter((each) => each.curve.recall.length);
  if (!drawn.length) return html`<${Empty} title="No curve yet">No fraud is known in the evaluated days.<//>`;
  const grid = Array.from({ length: 101 }, (_, i) => i / 100);
  const lines = drawn.map(({ curve }) => grid.map((recall) => {
    const at = curve.recall.findIndex((each) => each >= recall);
    return at < 0 ? null : curve.precision[at];
  }));
  return html`<${Chart} height=${300} series=${drawn.map((each, i) => ({ name: name(each), colour: COLOURS[i % COLOURS.length] }))} data=${[grid, ...lines]} label=${`Precision over recall: ${drawn.map((each) => `${name(each)}, average precision ${format.number(each.quality.ap, 3)}`).join("; ")}`} xText=${(x) => format.share(x, 0)} yText=${(y) => format.share(y, 0)} y=${{ range: [0, 1.02] }} />
  <p class="muted small">Precision (up) by recall (right), as the threshold falls.</p>`;
}

function Table({ delivered }) {
  const row = (label, value) => html`<tr key=${label}><th scope="row">${label}</th>${delivered.map((each) => html`<td key=${name(each)} class="number">${value(each)}</td>`)}</tr>`;
  return html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
    <caption class="hidden">Measures by path and version</caption>
    <thead><tr><th scope="col">Measure</th>${delivered.map((each) => html`<th key=${name(each)} scope="col" class="number">${each.path}<small style=${{ display: "block" }}>${each.version}</small></th>`)}</tr></thead>
    <tbody>
      ${MEASURES.map(([key, label]) => row(label, (each) => html`${format.number(each.quality[key], 3)}<small style=${{ display: "block" }}>${format.known(each.promised?.[key]) ? `promised ${format.number(each.promised[key], 3)}` : ""}</small>`))}
      ${row("cards detected", (each) => format.share(each.detected_share, 0))}
      ${row("time to detect, median (event time)", (each) => format.duration(each.time_to_detect_s["0.5"]))}
      ${row("money saved", (each) => format.money(each.money.saved_minor, "EUR", 0))}
      ${row("money lost", (each) => format.money(each.money.lost_minor, "EUR", 0))}
      ${row("spent on reviews and refusals", (each) => format.money(each.money.spent_minor, "EUR", 0))}
      ${row("transactions", (each) => html`${format.count(each.fraud + each.genuine)}<small style=${{ display: "block" }}>${format.count(each.fraud)} fraud, ${format.count(each.censored)} never labelled</small>`)}
    </tbody>
  </table></div>`;
}

function Scenarios({ delivered }) {
  const names = [...new Set(delivered.flatMap((each) => Object.keys(each.scenario_recall)))].sort();
  if (!names.length) return html`<p class="muted">This world does not tell its scenarios.</p>`;
  return html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
    <caption class="hidden">Recall by scenario</caption>
    <thead><tr><th scope="col">Scenario</th>${delivered.map((each) => html`<th key=${name(each)} scope="col">${each.path}<small style=${{ display: "block" }}>${each.version}</small></th>`)}</tr></thead>
    <tbody>${names.map((scenario) => html`<tr key=${scenario}><th scope="row">${scenario}</th>${delivered.map((each) => {
      const recall = each.scenario_recall[scenario];
      return html`<td key=${name(each)}><span class="score"><span class="score-bar" aria-hidden="true"><span style=${{ width: `${(recall ?? 0) * 100}%`, background: "var(--accent)" }}></span></span>${format.share(recall, 0)}</span></td>`;
    })}</tr>`)}</tbody>
  </table></div>`;
}

/** What is known when, and what it costs: from the services' metrics, so it is there before any label is mature. */
function Cost() {
  const { pulse } = useStore();
  const of = pulse?.vitals?.paths;
  if (!of) return html`<${Loading} what="Reading the services' metrics" />`;
  const cpu = (path) => (format.known(of.cpu_us[path]) ? `${format.number(of.cpu_us[path], 1)} µs` : "–");
  return html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
    <caption class="hidden">Freshness and CPU of both paths</caption>
    <thead><tr><th scope="col">Measure</th><th scope="col" class="number">streaming</th><th scope="col" class="number">batch</th></tr></thead>
    <tbody>
      <tr><th scope="row">features are as of (event time)</th><td class="number">this transaction</td><td class="number">${format.known(of.snapshot_age_s) ? `${format.duration(of.snapshot_age_s)} before it` : "no snapshot yet"}</td></tr>
      <tr><th scope="row">transactions with such features</th><td class="number">all</td><td class="number">${format.share(of.joined_share, 1)}</td></tr>
      <tr><th scope="row">scorer's CPU, a transaction</th><td class="number">${cpu("streaming")}</td><td class="number">${cpu("batch")}</td></tr>
      <tr><th scope="row">nightly job (wall time)</th><td class="number">none</td><td class="number">${format.duration(of.snapshot_made_in_s)}</td></tr>
    </tbody>
  </table></div>
  <p class="muted small">Since the services started. The streaming path's features cost CPU in the feature worker as well: docs/two-paths.md has that measured.</p>`;
}

export function Paths() {
  const { value, fault, again } = useLoaded(() => get("/api/paths"), [], 15000);
  const head = html`<div class="page-head"><h1>Two paths</h1><p class="muted">Features as of this payment, against features as of last midnight</p></div>`;
  if (fault && !value) return html`<div>${head}<${Fault} text=${fault} again=${again} /></div>`;
  if (!value) return html`<div>${head}<${Loading} what="Measuring the matured days" /></div>`;
  if (value.reason) return html`<div>${head}<div class="stack"><${Card}>${value.now_ms && html`<${Maturity} value=${value} />`}<${Empty} title="Nothing to compare yet">${value.reason}.<//><//><${Card} title="Freshness and cost"><${Cost} /><//></div></div>`;
  const many = value.delivered.length > 2; // more columns than half a page has room for
  const batch = value.delivered.some((each) => each.path !== "streaming");
  return html`<div>
    ${head}
    <div class="grid">
      <${Card} wide title="What is mature"><${Maturity} value=${value} />${!batch && html`<p class="notice">No score of the batch path is in these days: only the streaming path is drawn.</p>`}<//>
      <${Card} title="Precision and recall" wide><${Curves} delivered=${value.delivered} /><//>
      <${Card} title="Delivered" wide=${many} aside=${`at ${value.alerts_per_day_max} alerts a day`}><${Table} delivered=${value.delivered} /><//>
      <${Card} title="Share of each scenario that was not approved" wide=${many} aside="by the world's truth"><${Scenarios} delivered=${value.delivered} /><//>
      <${Card} title="Freshness and cost"><${Cost} /><//>
    </div>
  </div>`;
}
