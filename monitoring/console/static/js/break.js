/**
 * Break it: switches that make serving, comparing or training wrong on purpose, and the panel that shows each.
 *
 * Rule 1. On means: the log has it. Every console shows the same, and the banner stands on every page.
 */
import { html, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";
import { go } from "./app.js";
import { Card, Fact, Loading, Pill } from "./parts.js";
import { post, say, useStore } from "./store.js";

const SIDES = {
  serving: ["Serving", "The feature worker computes the vectors that it sends by the wrong rule. What it knows of cards and terminals stays right, so off is exact again with the next vector. Vectors served meanwhile say so, and training leaves them out."],
  meter: ["Comparing", "The parity meter computes its side by the wrong rule. What is served stays right."],
  training: ["Training", "The next training follows the wrong rule. Its version is marked, never decides by itself, and scores in shadow: what it delivers stands beside what it promised."],
};

async function turn(name, on) {
  try {
    await post(`/api/break/${encodeURIComponent(name)}`, { on });
    say(on ? `${name} is asked for: watch its panel.` : `${name} ends: what comes from now on is exact again.`);
  } catch (error) {
    say(error.message, "bad");
  }
}

function Switch({ of, on, places }) {
  const [page] = of.panel.split(":");
  const where = places.map((each) => `${each.stage}/${each.partition} offset ${format.count(each.offset)}`).join(", ");
  return html`<li class=${`switch ${on ? "on" : ""}`} data-switch=${of.name}>
    <div class="row"><h3>${of.name}</h3>${on ? html`<${Pill} kind="strong">on<//>` : html`<${Pill}>off<//>`}
      <button role="switch" aria-checked=${on ? "true" : "false"} class=${on ? "primary" : ""} aria-label=${`${of.name}: turn ${on ? "off" : "on"}`} onClick=${() => turn(of.name, !on)}>Turn ${on ? "off" : "on"}</button></div>
    <p>${of.effect}</p>
    <p class="small muted">Shown by <a href=${`/${page.toLowerCase()}`} onClick=${(event) => (event.preventDefault(), go(`/${page.toLowerCase()}`))}>${of.panel}</a>. <a href=${`/guide/break-it.md#:~:text=${encodeURIComponent(`## ${of.name}`).replaceAll("-", "%2D")}`} target="_blank" rel="noopener">Guide</a></p>
    ${on && html`<p class="small">Since ${format.wallTime(on.since_ms)}, wall time, request ${on.offset} of <code>control</code>${where ? `; in force from ${where}` : ""}.</p>`}
  </li>`;
}

function Meter({ parity }) {
  const wrong = Object.values(parity?.wrong ?? {}).reduce((sum, each) => sum + each, 0);
  const worst = Object.entries(parity?.features ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return html`<dl class="facts-row" aria-live="polite">
    <${Fact} label="parity meter: vectors that differ" value=${parity?.compared == null ? "–" : format.count(wrong)} kind=${parity?.compared == null ? "" : wrong ? "bad" : "good"} note=${parity?.compared == null ? "not measured yet" : `of ${format.count(parity.compared)} compared in the newest round`} />
    <${Fact} label="features that differ" value=${parity?.compared == null ? "–" : format.count(Object.keys(parity.features).length)} note=${worst.map(([name]) => name).join(", ") || (parity?.compared == null ? "" : "none")} />
  </dl>`;
}

export function Break() {
  const { session, pulse } = useStore();
  if (!session?.switches) return html`<${Loading} what="Reading the switches" />`;
  const on = pulse?.world?.switches ?? {};
  const signs = pulse?.vitals;
  return html`<div>
    <div class="page-head"><h1>Break it</h1><p class="muted">Ways in which such systems are wrong, to be seen and undone</p></div>
    <div class="stack">
      <${Card} title="The meter" wide aside="while a switch is on, a round begins every ten seconds"><${Meter} parity=${signs?.parity} /><//>
      ${Object.entries(SIDES).map(([side, [title, text]]) => html`<${Card} key=${side} title=${title} wide>
        <p class="muted">${text}</p>
        <ul class="switches">${session.switches.filter((each) => each.side === side).map((each) => html`<${Switch} key=${each.name} of=${each} on=${on[each.name]} places=${(signs?.switches ?? []).filter((place) => place.switch === each.name)} />`)}</ul>
      <//>`)}
    </div>
  </div>`;
}
