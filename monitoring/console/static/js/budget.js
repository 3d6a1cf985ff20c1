/**
 * Budget: what a review threshold would have cost, and how many alerts a day it would have raised.
 *
 * Rule 1. It is drawn over matured scores: what would have been, not a forecast.
 * Rule 2. The threshold that decides stands in the model's manifest; this page moves a line, not the model.
 */
import { html, useState } from "../vendor/preact-htm.js";
import { Chart } from "./chart.js";
import * as format from "./format.js";
import { Card, Empty, Fact, Fault, Loading, useLoaded } from "./parts.js";
import { get } from "./store.js";

function nearest(thresholds, value) {
  let best = 0;
  thresholds.forEach((each, i) => Math.abs(each - value) < Math.abs(thresholds[best] - value) && (best = i));
  return best;
}

function Curves({ budget, threshold }) {
  const { threshold: x, days } = budget;
  const perDay = budget.cost_minor.map((cost) => cost / 100 / days);
  const cheapest = perDay.indexOf(Math.min(...perDay));
  const within = budget.alerts_per_day.findIndex((alerts) => alerts <= budget.alerts_per_day_max);
  const [chosen, setChosen] = useState(threshold ?? x[within]);
  const at = nearest(x, chosen);
  const own = { x: x[at], text: `${format.number(x[at], 3)}`, colour: "ink", row: 2 };
  const ceiling = Math.max(budget.alerts_per_day_max * 3, budget.alerts_per_day[nearest(x, 0.1)]);
  return html`
    <${Card} title="A threshold" wide aside=${`${format.count(budget.rows)} matured transactions of ${budget.version} in ${days} days`}>
      <label class="row"><span>Review from a score of</span><input type="range" min="0" max="1" step="0.005" value=${chosen} onInput=${(event) => setChosen(Number(event.target.value))} aria-valuetext=${`${format.number(x[at], 3)}`} style=${{ flex: "1 1 240px" }} /></label>
      <dl class="facts-row" style=${{ marginTop: "12px" }}>
        <${Fact} label="threshold" value=${format.number(x[at], 3)} note=${format.known(threshold) ? `${format.number(threshold, 3)} decides now` : ""} />
        <${Fact} label="cost a day" value=${format.money(perDay[at] * 100, "EUR", 0)} note=${`cheapest ${format.money(perDay[cheapest] * 100, "EUR", 0)} at ${format.number(x[cheapest], 3)}`} />
        <${Fact} label="alerts a day" value=${format.number(budget.alerts_per_day[at], 1)} note=${`budget ${budget.alerts_per_day_max}`} kind=${budget.alerts_per_day[at] > budget.alerts_per_day_max ? "bad" : ""} />
        <${Fact} label="precision" value=${format.share(budget.precision[at], 0)} note="alerts that are fraud" />
        <${Fact} label="recall" value=${format.share(budget.recall[at], 0)} note="frauds that alert" />
      </dl>
      <p class="muted small" style=${{ marginTop: "12px" }}>Moving it changes nothing but these lines. The threshold that decides is published with the model: set <code>FRAUD_ALERTS_PER_DAY_MAX</code> and retrain to change it.</p>
    <//>
    <${Card} title="Cost a day" aside="frauds that pass, reviews, honest customers refused"><${Chart} legend=${false} ySize=${72} series=${[{ name: "cost a day", colour: "accent" }]} data=${[x, perDay]} label=${`Cost a day by threshold, cheapest ${format.number(perDay[cheapest])} euro at ${format.number(x[cheapest], 3)}`} yText=${(y) => format.money(y * 100, "EUR", 0)} marks=${[{ x: x[cheapest], text: "cheapest", colour: "good" }, own]} /><//>
    <${Card} title="Alerts a day" aside="within the budget to the right of the crossing"><${Chart} legend=${false} series=${[{ name: "alerts a day", colour: "accent" }]} data=${[x, budget.alerts_per_day.map((each) => (each > ceiling ? null : each))]} label=${`Alerts a day by threshold; the budget is ${budget.alerts_per_day_max}`} marks=${[{ y: budget.alerts_per_day_max, text: "budget" }, own]} y=${{ range: (_, low, high) => [0, Math.max(high, budget.alerts_per_day_max) * 1.1] }} /><//>`;
}

export function Budget() {
  const { value, fault, again } = useLoaded(() => Promise.all([get("/api/budget"), get("/api/models")]), [], 30000);
  const head = html`<div class="page-head"><h1>Budget</h1><p class="muted">Where to review: by cost, and by what analysts can handle</p></div>`;
  if (fault && !value) return html`<div>${head}<${Fault} text=${fault} again=${again} /></div>`;
  if (!value) return html`<div>${head}<${Loading} what="Computing the curves" /></div>`;
  const [{ budget, reason }, models] = value;
  if (!budget) return html`<div>${head}<${Card}><${Empty} title="No curve yet">${reason}.<//><//></div>`;
  const threshold = models.versions.find((each) => each.version === budget.version)?.thresholds?.review;
  return html`<div>${head}<div class="grid"><${Curves} budget=${budget} threshold=${threshold} /></div></div>`;
}
