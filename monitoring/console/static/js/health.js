/**
 * Health: the pipeline with its live rates, what was refused, whether training and serving agree, and what has drifted.
 *
 * Rule 1. A stage that does not answer says so; its last numbers are not shown as if they were new.
 */
import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { Chart } from "./chart.js";
import * as format from "./format.js";
import { Card, Confirm, Empty, Fact, Fault, Loading, Pill, useLoaded, useWidth } from "./parts.js";
import { changed, get, post, say, state, useStore, words } from "./store.js";

const STAGES = [
  { key: "producer", name: "Producer", service: "producer" },
  { key: "card", name: "Card stage", service: "stream_features", lag: "card" },
  { key: "terminal", name: "Terminal stage", service: "stream_features", lag: "terminal" },
  { key: "scorer", name: "Scorer", service: "scorer", lag: "scorer" },
  { key: "archiver", name: "Lake", service: "archiver", lag: "archiver" },
];

function Stage({ stage, signs, world }) {
  const of = signs.stages[stage.key];
  const down = signs.down.includes(stage.service);
  const rate = stage.key === "producer" ? signs.produced_per_s : stage.key === "archiver" ? signs.archived_per_s : of?.rate;
  const lag = signs.lag_s[stage.lag];
  const rows = [
    ...(of ? ["p50", "p95", "p99"].map((name) => [name, format.duration(of.latency_s[name])]) : []),
    stage.lag && ["lag", format.known(lag) ? `${format.duration(lag)}, ${format.count(signs.lag_records[stage.lag] ?? 0)} records` : "–"],
    of && format.known(of.watermark) && ["watermark", `offset ${format.count(of.watermark)}`],
    of && ["event time", format.eventMinute(of.event_time_ms)],
    stage.key === "producer" && ["simulated", format.eventMinute(signs.simulated_ms)],
  ].filter(Boolean);
  const absent = stage.key !== "producer" ? "does not answer" : !world ? "no world is running" : world.paused ? "event time stands still" : "runs, and shows no metrics here";
  return html`<div class=${`stage ${down && stage.key !== "producer" ? "bad" : ""}`}>
    <h3>${stage.name}</h3>
    ${down ? html`<p class="small">${absent}</p>` : html`<div class="big">${format.rate(rate)} ${format.known(rate) && html`<small>${stage.key === "archiver" ? "rows/s" : "tx/s"}</small>`}</div>`}
    ${!down && html`<dl>${rows.map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`}
  </div>`;
}

function Pipeline({ signs, world }) {
  return html`<${Card} title="Pipeline" wide aside=${`rates and percentiles over the last ${format.number(signs.seconds, 0)} s, wall time; watermark and event time UTC`}>
    <div class="pipe">${STAGES.map((stage) => html`<${Stage} key=${stage.key} stage=${stage} signs=${signs} world=${world} />`)}</div>
    <div class="lights">
      ${signs.up.map((name) => html`<${Pill} key=${name} kind="good">${name} up<//>`)}
      ${signs.down.filter((name) => name !== "producer").map((name) => html`<${Pill} key=${name} kind="bad">${name} does not answer<//>`)}
      ${signs.state_store.up !== null && html`<${Pill} kind=${signs.state_store.up ? "good" : "bad"}>state store ${signs.state_store.up ? `up, ${format.bytes(signs.state_store.memory_bytes)}` : "does not answer"}<//>`}
      ${signs.state_store.persisted === 0 && html`<${Pill} kind="bad">state store does not persist<//>`}
    </div>
  <//>`;
}

function Flow({ points }) {
  const times = points.map((point) => point[0] / 1000);
  const column = (i) => points.map((point) => point[i]);
  if (points.length < 2) return html`<${Card} title="The last half hour" wide><${Empty} title="Not enough yet">A point comes every two seconds.<//><//>`;
  if (!points.some((point) => format.known(point[1]))) return html`<${Card} title="The last half hour" wide><${Empty} title="Nothing was scored yet">Rate and latency are drawn from the first transaction on.<//><//>`;
  const newest = points.at(-1);
  return html`
    <${Card} title="Scored" aside="transactions a second, wall time"><${Chart} time series=${[{ name: "tx/s", colour: "accent" }]} data=${[times, column(1)]} label=${`Transactions scored a second over the last half hour; now ${format.rate(newest[1])}`} legend=${false} y=${{ range: (_, low, high) => [0, Math.max(1, high * 1.1)] }} /><//>
    <${Card} title="In the log to score" aside="seconds, wall time"><${Chart} time series=${[{ name: "p50", colour: "good" }, { name: "p95", colour: "accent" }, { name: "p99", colour: "bad" }]} data=${[times, column(2), column(3), column(4)]} label=${`Latency from the log's append to the score; now p95 ${format.duration(newest[3])}, p99 ${format.duration(newest[4])}`} yText=${format.duration} y=${{ range: (_, low, high) => [0, Math.max(0.01, high * 1.1)] }} /><//>`;
}

function Parity({ parity, late }) {
  const wrong = Object.values(parity.wrong).reduce((sum, each) => sum + each, 0);
  const rounds = Object.values(parity.rounds).reduce((sum, each) => sum + each, 0);
  const broken = Object.entries(parity.features);
  return html`<${Card} title="Parity" wide aside="served against recomputed from the lake, bit for bit">
    ${parity.compared === null
      ? html`<${Empty} title="Not measured yet">The watch compares a sample every few minutes (<code>FRAUD_PARITY_EVERY_S</code>).<//>`
      : html`<dl class="facts-row">
            <${Fact} label="vectors that differ" value=${format.count(wrong)} kind=${wrong ? "bad" : "good"} note=${wrong ? "training and serving disagree" : "training and serving agree"} />
            <${Fact} label="compared" value=${format.count(parity.compared)} note=${`newest of ${format.count(rounds)} rounds`} />
            <${Fact} label="late transactions" value=${format.count(late ?? 0)} note="behind their card's or terminal's newest, since the worker started" />
          </dl>
          ${broken.length > 0 && html`<ul>${broken.map(([name, count]) => html`<li key=${name}>${words(name.toUpperCase()).title}: ${format.count(count)}</li>`)}</ul>`}`}
  <//>`;
}

const binName = (found, i) => {
  const edge = (value) => format.number(value, Math.abs(value) < 10 && !Number.isInteger(value) ? 2 : 0);
  if (found.by_value) return edge(found.edges[i]);
  if (i === 0) return `≤ ${edge(found.edges[0])}`;
  return i === found.edges.length ? `> ${edge(found.edges[i - 1])}` : `${edge(found.edges[i - 1])} – ${edge(found.edges[i])}`;
};

/** Both distributions of a column side by side, by the reference's bins. */
function Distribution({ column }) {
  const { value, fault, again } = useLoaded(() => get(`/api/drift/${encodeURIComponent(column)}`), [column], 15000);
  if (fault) return html`<${Fault} text=${fault} again=${again} />`;
  if (!value) return html`<${Loading} what="Loading the distributions" />`;
  return html`<${Bins} value=${value} column=${column} />`;
}

function Bins({ value, column }) {
  const [box, width] = useWidth(520);
  if (value.reason) return html`<p class="muted sentence">${value.reason}.</p>`;
  const bars = value.reference.bins.map((reference, i) => ({ name: binName(value, i), reference, served: value.served.bins[i] }));
  bars.push({ name: "unseen", reference: value.reference.unseen, served: value.served.unseen }, { name: "no value", reference: value.reference.no_value, served: value.served.no_value });
  const shown = bars.filter((bar, i) => i < bars.length - 2 || bar.reference + bar.served > 0);
  const most = Math.max(...shown.flatMap((bar) => [bar.reference, bar.served]), 0.01);
  const step = width / shown.length;
  const size = (part) => (part / most) * 120;
  return html`<figure style=${{ margin: 0 }} ref=${box}>
    <svg class="bins" viewBox=${`0 0 ${width} 168`} role="img" aria-label=${`Shares by bin of ${column}: ${shown.map((bar) => `${bar.name}: reference ${format.share(bar.reference)}, served ${format.share(bar.served)}`).join("; ")}`}>
      ${shown.map((bar, i) => html`<g key=${bar.name} transform=${`translate(${i * step} 0)`}>
        <rect class="ref" x=${step * 0.14} width=${step * 0.34} y=${128 - size(bar.reference)} height=${size(bar.reference)}><title>${`${bar.name}: reference ${format.share(bar.reference)}`}</title></rect>
        <rect class="now" x=${step * 0.52} width=${step * 0.34} y=${128 - size(bar.served)} height=${size(bar.served)}><title>${`${bar.name}: served ${format.share(bar.served)}`}</title></rect>
        <text transform=${`translate(${step / 2} 140) rotate(${shown.length > 7 ? 32 : 0})`} text-anchor=${shown.length > 7 ? "start" : "middle"} style=${{ fontSize: "9px" }}>${bar.name}</text>
      </g>`)}
      <line class="grid" x1="0" x2=${width} y1="128" y2="128" />
    </svg>
    <figcaption class="chart-legend"><span><i style=${{ background: "var(--muted)" }}></i>reference, ${format.count(value.reference_rows)} rows</span><span><i style=${{ background: "var(--accent)" }}></i>served ${format.eventMinute(value.from_ms)} to ${format.eventMinute(value.to_ms)} UTC, ${format.count(value.served_rows)} rows so far</span></figcaption>
  </figure>`;
}

function Drift() {
  const { value, fault, again } = useLoaded(() => get("/api/drift"), [], 10000);
  const [chosen, setChosen] = useState(null);
  const [all, setAll] = useState(false);
  if (fault) return html`<${Card} title="Drift" wide><${Fault} text=${fault} again=${again} /><//>`;
  if (!value) return html`<${Card} title="Drift" wide><${Loading} what="Loading the judgement" /><//>`;
  const columns = value.reason ? [] : Object.entries(value.columns).map(([name, verdict]) => ({ name, ...verdict })).sort((a, b) => b.excess - a.excess);
  const column = chosen ?? columns[0]?.name;
  const title = (name) => (name === "score" ? "The score itself" : words(name.toUpperCase()).title);
  return html`<${Card} title="Drift" wide aside=${value.reason ? null : `${value.rows.toLocaleString()} transactions of ${format.eventMinute(value.start_ms)} to ${format.eventMinute(value.end_ms)} UTC against what ${value.version} has learned from`}>
    ${value.reason && html`<p class="muted sentence">${value.reason}.</p>`}
    ${!value.reason && value.raised.length > 0 && html`<p class="notice bad">Drifted: ${value.raised.map(title).join("; ")}.</p>`}
    ${!value.reason && html`<dl class="facts-row" style=${{ marginTop: "12px" }}>
      <${Fact} label="alarms" value=${format.count(value.raised.length)} kind=${value.raised.length ? "bad" : "good"} />
      <${Fact} label="alert rate" value=${format.share(value.alert_share, 2)} note=${`${format.share(value.alert_excess, 0)} of its limit`} />
      <${Fact} label="estimated precision" value=${format.share(value.precision, 0)} note="from the scores alone: blind to fraud that changes its habits" />
      <${Fact} label="estimated recall" value=${format.share(value.recall, 0)} />
    </dl>`}
    ${!value.reason && html`<div class="two" style=${{ marginTop: "16px" }}>
      <div>
        <p class="muted small">Distance, as a share of the limit at which an alarm begins to be raised:</p>
        <div class="meter">
          ${(all ? columns : columns.slice(0, 10)).map((each) => html`<button key=${each.name} class="meter-row" aria-pressed=${each.name === column} onClick=${() => setChosen(each.name)} title=${each.distances ? `PSI ${format.number(each.distances.psi, 3)}, Jensen-Shannon ${format.number(each.distances.jensen_shannon, 3)}, KS ${format.number(each.distances.ks, 3)}` : each.name}>
            <span class="meter-name">${title(each.name)}</span>
            <span class="meter-track" aria-hidden="true"><span class=${each.excess >= 1 ? "over" : ""} style=${{ width: `${Math.min(100, (each.excess ?? 0) * 100)}%` }}></span></span>
            <span class="number">${format.known(each.excess) ? format.share(each.excess, 0) : ""}</span>
          </button>`)}
        </div>
        ${columns.length > 10 && html`<button class="quiet" onClick=${() => setAll(!all)}>${all ? "The farthest ten" : `All ${columns.length}`}</button>`}
      </div>
      <div>${column && html`<h3 style=${{ marginTop: 0 }}>${title(column)}</h3><${Distribution} column=${column} />`}</div>
    </div>`}
  <//>`;
}

function Letter({ letterId, onClose }) {
  const { value, fault } = useLoaded(() => get(`/api/dead-letters/${encodeURIComponent(letterId)}`), [letterId]);
  const replay = async () => {
    try {
      const { topic } = await post(`/api/dead-letters/${encodeURIComponent(letterId)}/replay`);
      say(`Sent to ${topic} again. If it is still wrong, it comes back as a new dead letter.`);
    } catch (error) {
      say(error.message, "bad");
    }
    onClose();
  };
  return html`<${Confirm} title=${value ? value.reason : "Dead letter"} yes=${value?.replayable ? "Replay" : "Close"} onYes=${value?.replayable ? replay : onClose} onClose=${onClose}>
    ${fault && html`<p class="notice bad">${fault}</p>`}
    ${value && html`<p>${value.meaning}.</p><p class="muted">${value.detail}</p>
      <p class="small">${value.topic}/${value.partition}, offset ${value.offset}; key <code>${value.key ?? "none"}</code>; ${format.count(value.bytes)} bytes; refused at ${format.wallTime(value.refused_at_ms)}, wall time</p>
      <pre class="doc">${value.text}</pre>
      ${value.replayable ? html`<p class="muted small">A replay writes these bytes again to where they came from.</p>` : html`<p class="muted small">It stands on an internal topic: the stage before it writes again what is missing there.</p>`}`}
  <//>`;
}

function DeadLetters({ counted }) {
  const [open, setOpen] = useState(null);
  const [fault, setFault] = useState(null);
  useEffect(() => {
    get("/api/dead-letters").then((found) => ((state.deadLetters = found.dead_letters), changed()), (error) => setFault(error.message));
  }, []);
  const letters = state.deadLetters;
  return html`<${Card} title="Dead letters" wide aside=${`${format.count(counted.reduce((sum, each) => sum + each.count, 0))} refused since the services started`}>
    ${fault && html`<${Fault} text=${fault} />`}
    ${!fault && !letters && html`<${Loading} what="Loading" />`}
    ${letters && !letters.length && html`<${Empty} title="Nothing was refused">Every message that came could be read.<//>`}
    ${letters && letters.length > 0 && html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
      <caption class="hidden">Dead letters, newest first</caption>
      <thead><tr><th scope="col">Refused, wall time</th><th scope="col">Reason</th><th scope="col">From</th><th scope="col">Detail</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
      <tbody>${letters.slice(0, 20).map((each) => html`<tr key=${each.letter_id}><td>${format.wallTime(each.refused_at_ms)}</td><td><${Pill} kind="warn">${each.reason}<//></td><td>${each.topic}/${each.partition} @ ${each.offset}</td><td>${each.detail.slice(0, 90)}</td><td><button class="link" onClick=${() => setOpen(each.letter_id)} aria-label=${`Open the dead letter ${each.reason} at offset ${each.offset}`}>Open</button></td></tr>`)}</tbody>
    </table></div>`}
    ${open && html`<${Letter} letterId=${open} onClose=${() => setOpen(null)} />`}
  <//>`;
}

/** What Alertmanager says: alerts on the system itself, not on payments. */
function SystemAlerts({ told, nowMs }) {
  const heard = told?.heartbeat_ms;
  const aside = heard ? `alerting lives: its dead man's switch was heard ${format.duration(Math.max(0, nowMs - heard) / 1000)} ago` : "Alertmanager was not heard yet";
  return html`<${Card} title="Alerts on the system" wide aside=${aside}>
    ${!told?.alerts.length && html`<${Empty} title="Nothing was told">Alertmanager's webhook (<code>POST /api/alertmanager</code>) shows here what fires and what has resolved; what it has is also on its own page, port 9093.<//>`}
    ${told?.alerts.length > 0 && html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
      <caption class="hidden">Alerts on the system, those that fire first</caption>
      <thead><tr><th scope="col">Alert</th><th scope="col">State</th><th scope="col">Since, wall time</th><th scope="col">What it says</th><th scope="col">Runbook</th></tr></thead>
      <tbody>${told.alerts.slice(0, 30).map((each) => html`<tr key=${each.fingerprint} data-alertname=${each.name}>
        <th scope="row">${each.name}<small style=${{ display: "block" }}>${each.severity}</small></th>
        <td><${Pill} kind=${each.status === "resolved" ? "good" : each.severity === "page" ? "bad" : "warn"}>${each.status}<//>${each.ends_ms && html`<small style=${{ display: "block" }}>${format.wallTime(each.ends_ms)}</small>`}</td>
        <td>${format.wallTime(each.starts_ms)}</td>
        <td>${each.summary}<small style=${{ display: "block" }} class="muted">${Object.entries(each.labels).map(([name, value]) => `${name}=${value}`).join(", ")}</small></td>
        <td>${each.runbook ? html`<a href=${`/guide/runbook.md#:~:text=${encodeURIComponent(`## ${each.name}`).replaceAll("-", "%2D")}`} target="_blank" rel="noopener">${each.runbook}</a>` : "–"}</td>
      </tr>`)}</tbody>
    </table></div>`}
    ${told?.gone > 0 && html`<p class="muted small">${format.count(told.gone)} older ones are not kept.</p>`}
  <//>`;
}

export function Health() {
  const { pulse, points, systemAlerts } = useStore();
  const told = html`<${SystemAlerts} told=${systemAlerts} nowMs=${Date.now()} />`;
  const signs = pulse?.vitals;
  return html`<div>
    <div class="page-head"><h1>Health</h1></div>
    ${signs && signs.up.length + signs.down.length > 0
      ? html`<div class="grid"><${Pipeline} signs=${signs} world=${pulse.world?.clock} /><${Flow} points=${points} /><${Parity} parity=${signs.parity} late=${signs.late} />${told}<${Drift} /><${DeadLetters} counted=${signs.dead_letters} /></div>`
      : html`<div class="grid"><${Card} wide>${signs ? html`<${Empty} title="No service is known here"><p>Start the stack with <code>fraudstream up</code>, or name the services' metrics pages with <code>FRAUD_CONSOLE_TARGETS</code>.</p><//>` : html`<${Loading} what="Reading the vital signs" />`}<//>${told}<${Drift} /><${DeadLetters} counted=${[]} /></div>`}
  </div>`;
}
