/**
 * World: the clock of the simulated world, fraud on purpose, and when it was caught.
 *
 * Rule 1. What was asked is shown when the log has it: every console sees the same runs.
 */
import { html, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Card, Confirm, Empty, Fact, Pill, useWidth } from "./parts.js";
import { post, say, state, useStore } from "./store.js";

const SPEEDS = [{ speed: 1, name: "real time" }, { speed: 60, name: "1 min = 1 h" }, { speed: 360, name: "1 min = 6 h" }, { speed: 1440, name: "1 min = 1 day" }];

async function ask(path, body, done) {
  try {
    await post(path, body);
    say(done);
  } catch (error) {
    say(error.message, "bad");
  }
}

function Clock({ clock }) {
  if (!clock) return html`<${Card} title="Clock" wide><${Empty} title="No world is running"><p>Start one with <code>fraudstream demo</code>, or <code>fraudstream world stream</code>.</p><//><//>`;
  return html`<${Card} title="Clock" wide aside="all of it is event time, UTC">
    <div class="row" style=${{ gap: "16px 32px" }}>
      <dl class="facts-row"><${Fact} label=${clock.paused ? "stands at" : "event time"} value=${`${format.eventMinute(clock.event_ms)} UTC`} note=${clock.paused ? "paused" : `${format.number(clock.speed, 0)} times real time`} /></dl>
      <button class=${clock.paused ? "primary" : ""} onClick=${() => ask("/api/world/clock", { paused: !clock.paused }, clock.paused ? "Event time goes on." : "Event time stands still.")}>${clock.paused ? "Go on" : "Pause"}</button>
      <div class="segments" role="group" aria-label="Speed of event time">${SPEEDS.map((each) => html`<button key=${each.speed} aria-pressed=${clock.speed === each.speed} onClick=${() => ask("/api/world/clock", { speed: each.speed }, `Event time runs ${each.speed} times as fast as real time.`)}>${each.name}</button>`)}</div>
    </div>
  <//>`;
}

const STATE_KIND = { running: "info", waiting: "warn", ended: "" };

function Runs({ runs, clock }) {
  if (!runs.length) return html`<${Card} title="What was started" wide><${Empty} title="Nothing was started yet">Start a scenario below; its run appears here, and when it was caught.<//><//>`;
  const newest = [...runs].reverse().slice(0, 12);
  return html`<${Card} title="What was started, and when it was caught" wide aside="event time, UTC; truth of the runs that a person has started">
    <${Timeline} runs=${newest} clock=${clock} />
    <div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
      <caption class="hidden">Runs, newest first</caption>
      <thead><tr><th scope="col">Scenario</th><th scope="col">Begins</th><th scope="col">State</th><th scope="col" class="number">Frauds alerted</th><th scope="col" class="number">Cards caught</th><th scope="col" class="number">First alert after</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
      <tbody>${newest.map((run) => html`<tr key=${run.run_id} data-run=${run.run_id}>
        <th scope="row">${run.scenario}<small style=${{ display: "block" }}>${run.run_id}</small></th><td>${format.eventMinute(run.begin_ms)}</td><td><${Pill} kind=${STATE_KIND[run.state]}>${run.state}<//></td>
        <td class="number">${format.count(run.alerted)} of ${format.count(run.transactions)}</td><td class="number">${format.count(run.cards_caught)} of ${format.count(run.cards_hit)}</td>
        <td class="number">${run.first_alert_ms === null ? "–" : format.duration((run.first_alert_ms - run.first_fraud_ms) / 1000)}</td>
        <td>${run.state !== "ended" && html`<button onClick=${() => ask(`/api/world/scenarios/${encodeURIComponent(run.run_id)}/stop`, {}, `${run.scenario} was stopped: what it has not sent never comes.`)}>Stop</button>`}</td>
      </tr>`)}</tbody>
    </table></div>
  <//>`;
}

/** A bar for each run, a dot where it was first caught, a line for now. */
function Timeline({ runs, clock }) {
  const [box, width] = useWidth(900);
  const now = clock?.event_ms ?? Math.max(...runs.map((run) => run.end_ms));
  const from = Math.min(...runs.map((run) => run.begin_ms), now);
  const to = Math.max(...runs.map((run) => Math.min(run.end_ms, now + 6 * 3600e3)), now);
  const span = Math.max(1, to - from);
  const left = width < 500 ? 106 : 150;
  const x = (ms) => left + ((Math.min(Math.max(ms, from), to) - from) / span) * (width - left - 30);
  const height = runs.length * 26 + 34;
  return html`<div ref=${box}><svg class="timeline" viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${`Timeline of ${runs.length} runs from ${format.eventMinute(from)} to ${format.eventMinute(to)}, event time; the table below has the same facts`}>
    ${runs.map((run, i) => html`<g key=${run.run_id} transform=${`translate(0 ${i * 26 + 6})`}>
      <text class="name" x="0" y="14">${run.scenario}</text>
      <rect class="run" x=${x(run.begin_ms)} y="4" height="12" rx="3" width=${Math.max(3, x(run.end_ms) - x(run.begin_ms))}><title>${`${format.eventMinute(run.begin_ms)} to ${format.eventMinute(run.end_ms)}`}</title></rect>
      ${run.first_alert_ms !== null && html`<circle class="caught" cx=${x(run.first_alert_ms)} cy="10" r="5"><title>${`first caught ${format.eventMinute(run.first_alert_ms)}`}</title></circle>`}
    </g>`)}
    <line class="now" x1=${x(now)} x2=${x(now)} y1="0" y2=${height - 22} />
    ${x(now) - left > 280 && html`<text x=${left} y=${height - 6}>${format.eventMinute(from)}</text>`}<text x=${x(now)} y=${height - 6} text-anchor=${x(now) - left > 160 || x(now) + 150 > width ? "end" : "start"}>now ${format.eventMinute(now)}</text>
  </svg>
  <p class="chart-legend" style=${{ marginBottom: "12px" }}><span><i style=${{ background: "var(--accent)" }}></i>run</span><span><i style=${{ background: "var(--good)" }}></i>first alert</span></p></div>`;
}

function Start({ scenario, world, onClose }) {
  const [values, setValues] = useState({ cards: 20, minutes: scenario.time_scale === "minutes" ? 10 : scenario.time_scale === "hours" ? 240 : 4320, ...Object.fromEntries(scenario.parameters.map((each) => [each.name, each.default])) });
  const set = (name) => (event) => setValues({ ...values, [name]: event.target.value });
  const begin = () => {
    const parameters = Object.fromEntries(scenario.parameters.filter((each) => Number(values[each.name]) !== each.default).map((each) => [each.name, Number(values[each.name])]));
    ask("/api/world/scenarios", { scenario: scenario.name, cards: Number(values.cards), minutes: Number(values.minutes), parameters }, `${scenario.name} begins.`);
    onClose();
  };
  const field = (name, label, low, high) => html`<label key=${name}>${label}<input type="number" step="any" min=${low} max=${high} value=${values[name]} onInput=${set(name)} /><span>${format.number(low, low % 1 ? 1 : 0)} to ${format.count(high)}</span></label>`;
  return html`<${Confirm} title=${`Start ${scenario.name}`} yes="Start" onYes=${begin} onClose=${onClose}>
    <p>${scenario.signal}.</p>
    <div class="fields">${field("cards", "cards hit", 1, world ?? 1000000)}${field("minutes", "minutes of event time", 0.1, 129600)}${scenario.parameters.map((each) => field(each.name, each.name.replaceAll("_", " "), each.low, each.high))}</div>
  <//>`;
}

export function World() {
  const { pulse, session } = useStore();
  const [starting, setStarting] = useState(null);
  const world = pulse?.world;
  return html`<div>
    <div class="page-head"><h1>World</h1><p class="muted">Fraud on purpose, in event time</p></div>
    <div class="stack">
      <${Clock} clock=${world?.clock} />
      <${Runs} runs=${world?.runs ?? []} clock=${world?.clock} />
      <${Card} title="Scenarios" wide>
        <div class="choices">${(session?.scenarios ?? []).map((scenario) => html`<div class="choice" key=${scenario.name}>
          <h3>${scenario.name}</h3><p class="small muted">over ${scenario.time_scale}</p><p class="small">${scenario.signal}</p>
          <button disabled=${!world?.clock} onClick=${() => setStarting(scenario)} aria-label=${`Start ${scenario.name}`}>Start …</button>
        </div>`)}</div>
      <//>
      ${world?.steered.length > 0 && html`<${Card} title="What was asked of the clock and the trainer" wide><ul class="steps">${[...world.steered].reverse().slice(0, 12).map((each, i) => html`<li key=${i}><span class="muted">${format.wallTime(each.wall_ms)}</span><span>${each.what}</span><span class="muted">${format.known(each.event_ms) ? `at ${format.eventMinute(each.event_ms)} UTC, event time` : ""}</span></li>`)}</ul><//>`}
    </div>
    ${starting && html`<${Start} scenario=${starting} world=${world?.cards} onClose=${() => setStarting(null)} />`}
  </div>`;
}
