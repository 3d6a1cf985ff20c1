/**
 * Lines over a number or a time, drawn by uPlot.
 *
 * Rule 1. uPlot is loaded with the first chart, not with the page. Where it cannot be had (the console went away, or the
 *         reader has moved on to another page meanwhile), the chart says so, and the next chart tries again.
 * Rule 2. Colours are those of the design system, read anew when they change.
 * Rule 3. What the chart shows stands in a sentence for who cannot see it (`label`).
 */
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { wallTime } from "./format.js";

let library = null;
function uplot() {
  library ??= (() => {
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/static/vendor/uplot.css" });
    document.head.append(sheet);
    return import("../vendor/uplot.js").then((found) => found.default);
  })().catch((reason) => {
    library = null;
    throw reason;
  });
  return library;
}

/** What a custom property is now, as a colour that a canvas takes. */
function colour(name) {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * series: [{name, colour, dash}], data: [x, ...ys] with null for a gap. time: x is epoch seconds.
 * marks: [{x, text}] or [{y, text}], drawn as lines.
 */
export function Chart({ series, data, label, height = 220, time = false, xText, yText, ySize = 58, marks = [], y = {}, legend = true }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [theme, setTheme] = useState(0);
  const [missing, setMissing] = useState(false);
  const now = useRef(marks);
  now.current = marks;
  useEffect(() => {
    const drawn = () => setTheme((n) => n + 1);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("themechange", drawn);
    dark.addEventListener("change", drawn);
    return () => (removeEventListener("themechange", drawn), dark.removeEventListener("change", drawn));
  }, []);
  useEffect(() => {
    let gone = false;
    let watch = null;
    const draw = (UPlot) => {
      if (gone || !box.current) return;
      setMissing(false);
      const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "11px system-ui" };
      const options = {
        width: box.current.clientWidth, height,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time }, y },
        axes: [{ ...axis, ...(time ? { space: 74, values: (_, ticks) => ticks.map((tick) => wallTime(tick * 1000)) } : {}), ...(xText ? { values: (_, ticks) => ticks.map(xText) } : {}) }, { ...axis, size: ySize, ...(yText ? { values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : yText(tick))) } : {}) }],
        series: [{}, ...series.map((each) => ({ label: each.name, stroke: colour(each.colour), width: 1.8, dash: each.dash, points: { show: false } }))],
        hooks: { draw: [(u) => drawMarks(u, now.current)] },
      };
      plot.current = new UPlot(options, data, box.current);
      watch = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height }));
      watch.observe(box.current);
    };
    uplot().then(draw, () => gone || setMissing(true));
    return () => {
      gone = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [theme, series.length]);
  useEffect(() => plot.current?.setData(data), [data]);
  useEffect(() => plot.current?.redraw(false), [JSON.stringify(marks)]);
  return html`<figure style=${{ margin: 0 }}>
    <div class="chart" ref=${box} role="img" aria-label=${label} style=${{ minHeight: `${height}px` }}></div>
    ${missing && html`<p class="muted">This chart could not be drawn: the console did not answer. Reload the page.</p>`}
    ${legend && html`<figcaption class="chart-legend">${series.map((each) => html`<span key=${each.name}><i style=${{ background: `var(--${each.colour})` }}></i>${each.name}</span>`)}</figcaption>`}
  </figure>`;
}

function drawMarks(u, marks) {
  const { ctx } = u;
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  for (const mark of marks) {
    ctx.strokeStyle = ctx.fillStyle = colour(mark.colour ?? "bad");
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    const { left, top, width, height } = u.bbox;
    if (mark.x !== undefined) {
      const at = u.valToPos(mark.x, "x", true);
      ctx.moveTo(at, top);
      ctx.lineTo(at, top + height);
      const right = at > left + width * 0.7;
      ctx.textAlign = right ? "right" : "left";
      ctx.fillText(mark.text, at + (right ? -6 : 6), top + 14 * devicePixelRatio * (mark.row ?? 1));
    } else {
      const at = u.valToPos(mark.y, "y", true);
      ctx.moveTo(left, at);
      ctx.lineTo(left + width, at);
      ctx.textAlign = "right";
      ctx.fillText(mark.text, left + width - 6, at - 6);
    }
    ctx.stroke();
  }
  ctx.restore();
}
