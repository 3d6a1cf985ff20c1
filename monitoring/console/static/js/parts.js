/**
 * The small parts that every page is made of.
 *
 * Rule 1. A drawing that carries a number says the number in text too.
 * Rule 2. Everything goes through htm as text: no page ever sets HTML.
 */
import { Component, html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import * as format from "./format.js";

export function Pill({ kind = "", title, children }) {
  return html`<span class="pill ${kind}" title=${title}>${children}</span>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><div>${children}</div></div>`;
}

export function Loading({ what }) {
  return html`<div class="empty" role="status"><span class="spinner" aria-hidden="true"></span><p>${what} …</p></div>`;
}

export function Fault({ text, again }) {
  return html`<div class="empty fault" role="alert">
    <p class="empty-title">This could not be loaded</p>
    <p>${text}</p>
    ${again && html`<button onClick=${again}>Try again</button>`}
  </div>`;
}

export function Card({ title, aside, children, wide, id }) {
  return html`<section class="card ${wide ? "wide" : ""}" id=${id}>
    ${title && html`<header class="card-head"><h2>${title}</h2>${aside && html`<div class="card-aside">${aside}</div>`}</header>`}
    ${children}
  </section>`;
}

export function Fact({ label, value, note, kind = "" }) {
  return html`<div class="fact ${kind}"><dt>${label}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`;
}

/** A score in [0, 1] as a number with a bar. */
export function Score({ value, threshold }) {
  const width = Math.round((value ?? 0) * 100);
  return html`<span class="score"
    ><span class="score-bar" aria-hidden="true"><span style=${{ width: `${width}%` }}></span></span>${format.score(value)}</span
  >`;
}

/** Values over time as a line, the last one marked. Missing values are gaps. */
export function Spark({ values, label, width = 120, height = 26 }) {
  const present = values.filter(format.known);
  if (present.length < 2) return html`<span class="muted small">no history</span>`;
  const low = Math.min(...present);
  const span = Math.max(...present) - low || 1;
  const x = (i) => 3 + (i / Math.max(1, values.length - 1)) * (width - 6);
  const y = (v) => height - 4 - ((v - low) / span) * (height - 8);
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (!format.known(value)) return (pen = "M");
    path += `${pen}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  const last = values[values.length - 1];
  return html`<svg class="spark" viewBox=${`0 0 ${width} ${height}`} height=${height} preserveAspectRatio="none" role="img" aria-label=${label}>
    <path d=${path} />
    ${format.known(last) && html`<circle cx=${x(values.length - 1)} cy=${y(last)} r="3" />`}
  </svg>`;
}

/** The width of an element in pixels, kept up to date: drawings are made for it, so that their text stays readable. */
export function useWidth(initial) {
  const box = useRef(null);
  const [width, setWidth] = useState(initial);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.max(220, Math.round(entry.contentRect.width))));
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return [box, width];
}

/** Load something, and load it again every `everyMs`; keeps what it had while it loads. */
export function useLoaded(load, dependencies = [], everyMs = 0) {
  const [found, setFound] = useState({ value: null, fault: null, loading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    let wanted = true;
    const run = () =>
      load().then(
        (value) => wanted && setFound({ value, fault: null, loading: false }),
        (error) => wanted && setFound((before) => ({ ...before, fault: error.message, loading: false })),
      );
    run();
    const timer = everyMs ? setInterval(() => !document.hidden && run(), everyMs) : 0;
    return () => {
      wanted = false;
      clearInterval(timer);
    };
  }, [...dependencies, round]);
  return { ...found, again: () => setRound((n) => n + 1) };
}

/** A question before a change: the browser's own modal dialog, so focus and Escape are right. */
export function Confirm({ title, children, yes, danger, onYes, onClose }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} class="confirm" onClose=${onClose} aria-labelledby="confirm-title">
    <h2 id="confirm-title">${title}</h2>
    <div class="confirm-body">${children}</div>
    <div class="row end">
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="button" class=${danger ? "danger" : "primary"} onClick=${onYes} autofocus>${yes}</button>
    </div>
  </dialog>`;
}

/** Shows what broke on one page, and leaves the others alone. */
export class Shield extends Component {
  componentDidCatch(error) {
    this.setState({ error });
  }
  render({ children }, { error }) {
    return error ? html`<${Fault} text=${String(error.message ?? error)} again=${() => this.setState({ error: null })} />` : children;
  }
}
