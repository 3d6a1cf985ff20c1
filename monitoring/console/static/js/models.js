/**
 * Models: versions with what they promised and delivered, their roles, and a training as it goes.
 *
 * Rule 1. A role changes only after a question, and only from the champion that this page has shown.
 */
import { html, useEffect, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { Card, Confirm, Empty, Fault, Loading, Pill, useLoaded } from "./parts.js";
import { get, post, say, useStore } from "./store.js";

const MEASURES = [["ap", "average precision"], ["auc", "AUC"], ["card_precision", "card precision at the budget"]];
const FINAL = { promoted: "good", rejected: "warn", failed: "bad" };

/** The newest training: its stages, and how it ended. */
function Training({ steps, onDone }) {
  const newest = steps.at(-1);
  const own = newest ? steps.filter((step) => step.request_id === newest.request_id) : [];
  const done = newest && newest.state in FINAL;
  useEffect(() => done && onDone(), [newest?.request_id, done]);
  const [asking, setAsking] = useState(false);
  const ask = async () => {
    setAsking(true);
    try {
      await post("/api/retrain");
      say("Asked for a training. Its progress appears here.");
    } catch (error) {
      say(error.message, "bad");
    }
    setAsking(false);
  };
  const running = newest && !done;
  return html`<${Card} title="Training" wide aside=${html`<button class="primary" disabled=${asking} onClick=${ask}>Retrain now</button>`}>
    ${!newest && html`<p class="muted">No training was asked for yet. One learns from everything whose label is known, and is promoted only when it beats the champion.</p>`}
    ${newest &&
    html`<div aria-live="polite">
      <p>${done ? html`<${Pill} kind=${FINAL[newest.state]}>${newest.state}<//> ${newest.detail}` : html`<${Pill} kind="info">${newest.state}<//> ${newest.stage}${newest.detail ? `: ${newest.detail}` : ""}`}</p>
      <div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Number(newest.percent)} aria-label="Training"><span style=${{ width: `${running ? newest.percent : 100}%` }}></span></div>
      <details open=${running}><summary class="muted small">${own.length} steps, wall time</summary>
        <ol class="steps">${own.map((step, i) => html`<li key=${i}><span class="muted">${format.wallTime(step.at_ms)}</span><span>${step.stage}</span><span class="muted">${step.detail}</span></li>`)}</ol>
      </details>
    </div>`}
  <//>`;
}

function Measure({ promised, delivered }) {
  const better = format.known(promised) && format.known(delivered) && delivered >= promised;
  return html`<td class="number">${format.number(promised, 3)}<small style=${{ display: "block" }}>${format.known(delivered) ? html`delivered <strong>${format.number(delivered, 3)}</strong>${format.known(promised) ? (better ? " ▲" : " ▼") : ""}` : "not mature"}</small></td>`;
}

function Version({ row, roles, onPromote, onCard }) {
  const mine = Object.entries(roles).filter(([, version]) => version === row.version).map(([role]) => role);
  if (row.error) return html`<tr class="version"><th scope="row">${row.version}</th><td colspan="6"><${Pill} kind="bad">not whole<//> ${row.error}</td></tr>`;
  return html`<tr class="version" data-version=${row.version}>
    <th scope="row"><button class="link" onClick=${onCard}>${row.version}</button><div class="row">${mine.map((role) => html`<${Pill} key=${role} kind=${role === "champion" ? "good" : "info"}>${role}<//>`)}</div>${row.in_shadow && html`<small style=${{ display: "block" }}>in shadow AP ${format.number(row.in_shadow.ap, 3)}, who decided on the same ${format.number(row.champion_beside.ap, 3)}</small>`}</th>
    <td>${format.eventMinute(row.as_of_ms)}<small style=${{ display: "block" }}>${format.count(row.trained_on.rows)} rows, ${format.count(row.trained_on.fraud)} fraud</small></td>
    ${MEASURES.map(([name]) => html`<${Measure} key=${name} promised=${row.promised[name]} delivered=${row.delivered?.[name]} />`)}
    <td><${Pill} kind=${row.gate.outcome === "promoted" ? "good" : "warn"}>${row.gate.outcome}<//>${(row.gate.switches ?? []).map((name) => html` <${Pill} key=${name} kind="bad" title="Its promise is wrong on purpose: see Break it">made under ${name}<//>`)}<p class="gap-note">${row.gate.reason}</p></td>
    <td>${!mine.includes("champion") && html`<button onClick=${onPromote}>Promote</button>`}</td>
  </tr>`;
}

function ModelCard({ version, onClose }) {
  const { value, fault } = useLoaded(() => get(`/api/models/${version}/card`), [version]);
  return html`<${Confirm} title=${`Model card of ${version}`} yes="Close" onYes=${onClose} onClose=${onClose}>${fault ? html`<p>${fault}</p>` : value ? html`<pre class="doc" tabindex="0">${value.card}</pre>` : html`<${Loading} what="Loading" />`}<//>`;
}

export function Models() {
  const { training } = useStore();
  const { value, fault, again } = useLoaded(() => get("/api/models"), [], 10000);
  const [asking, setAsking] = useState(null);
  const [card, setCard] = useState(null);
  const change = async () => {
    const { path, done } = asking;
    setAsking(null);
    try {
      await post(path, { champion: value.roles.champion });
      say(done);
    } catch (error) {
      say(error.message, "bad");
    }
    again();
  };
  const roles = value?.roles;
  const promote = ({ version, gate }) => setAsking({ path: `/api/models/${version}/promote`, title: `Promote ${version}?`, text: `${gate.switches?.length ? `It was made under ${gate.switches.join(", ")}: its promise is wrong on purpose. ` : ""}It decides from then on. ${roles.champion ?? "The rules"} becomes the previous version; a rollback makes it the champion again.`, yes: "Promote", done: `${version} is the champion. The scorer takes it when it has checked it.` });
  const rollback = () => setAsking({ path: "/api/models/rollback", title: `Roll back to ${roles.previous}?`, text: `${roles.champion} decides no more, and becomes the previous version.`, yes: "Roll back", done: `${roles.previous} is the champion again.` });
  return html`<div>
    <div class="page-head"><h1>Models</h1><p class="muted">${roles ? (roles.champion ? html`${roles.champion} decides` : "The rules decide: there is no champion yet") : ""}</p><div class="row">${roles?.previous && html`<button onClick=${rollback}>Roll back …</button>`}</div></div>
    <div class="stack">
      <${Training} steps=${training} onDone=${again} />
      <${Card} title="Versions" wide aside="promised: on matured data that it had not seen; delivered: since it decides, on matured labels">
        ${fault && html`<${Fault} text=${fault} again=${again} />`}
        ${!value && !fault && html`<${Loading} what="Reading the registry" />`}
        ${value?.fault && html`<p class="notice bad">${value.fault}</p>`}
        ${value && !value.versions.length && html`<${Empty} title="No model yet">Until one is trained, the scorer decides by rules.<//>`}
        ${value && value.versions.length > 0 && html`<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table>
          <caption class="hidden">Versions, newest first</caption>
          <thead><tr><th scope="col">Version</th><th scope="col">As of, event time</th>${MEASURES.map(([name, label]) => html`<th key=${name} scope="col" class="number">${label}</th>`)}<th scope="col">Gate</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
          <tbody>${value.versions.map((row) => html`<${Version} key=${row.version} row=${row} roles=${roles} onPromote=${() => promote(row)} onCard=${() => setCard(row.version)} />`)}</tbody>
        </table></div>`}
      <//>
    </div>
    ${asking && html`<${Confirm} title=${asking.title} yes=${asking.yes} onYes=${change} onClose=${() => setAsking(null)}><p>${asking.text}</p><//>`}
    ${card && html`<${ModelCard} version=${card} onClose=${() => setCard(null)} />`}
  </div>`;
}
