// Line charts, scatter plots and bars as SVG, redrawn when their width changes.

const MARGIN = { top: 12, right: 14, bottom: 40, left: 46 };
const COLOURS = ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"];
const drawings = new Map();
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const drawing = drawings.get(target);
    if (drawing && drawing.width !== target.clientWidth) redraw(target);
  }
});

/** Let `draw(width)` give the nodes of a host, now and whenever its width changes. */
function draw(host, paint) {
  if (!drawings.has(host)) widths.observe(host);
  drawings.set(host, { paint, width: 0 });
  redraw(host);
}

function redraw(host) {
  const drawing = drawings.get(host);
  drawing.width = host.clientWidth;
  host.replaceChildren(...drawing.paint(Math.max(host.clientWidth, 220)));
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return { found, digits: Math.min(20, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))) };
}

function tickText(value, digits) {
  const size = Math.abs(value);
  if (size >= 1e4) return `${+(value / 1000).toFixed(1)}k`;
  return size > 0 && digits > 4 ? value.toExponential(0) : value.toFixed(digits);
}

/** Scales, grid and axes of a plot with the domains `x` and `y`, [low, high] each. */
function frame({ width, height, x, y, xTitle, yTitle, label }) {
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const toX = (value) => MARGIN.left + ((value - x[0]) / (x[1] - x[0] || 1)) * (right - MARGIN.left);
  const toY = (value) => bottom - ((value - y[0]) / (y[1] - y[0] || 1)) * (bottom - MARGIN.top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const vertical = ticks(y[0], y[1], 5), horizontal = ticks(x[0], x[1], Math.max(2, Math.floor(width / 90)));
  for (const value of vertical.found) {
    svg.append(s("line", { class: "grid", x1: MARGIN.left, x2: right, y1: toY(value), y2: toY(value) }),
      s("text", { x: MARGIN.left - 7, y: toY(value) + 4, "text-anchor": "end" }, tickText(value, vertical.digits)));
  }
  for (const value of horizontal.found) {
    svg.append(s("line", { class: "axis", x1: toX(value), x2: toX(value), y1: bottom, y2: bottom + 4 }),
      s("text", { x: toX(value), y: bottom + 17, "text-anchor": "middle" }, tickText(value, horizontal.digits)));
  }
  svg.append(s("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    s("text", { x: (MARGIN.left + right) / 2, y: height - 5, "text-anchor": "middle" }, xTitle));
  if (yTitle) {
    const middle = (MARGIN.top + bottom) / 2;
    svg.append(s("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, yTitle));
  }
  return { svg, toX, toY, right, bottom };
}

function pathOf(xs, ys, toX, toY, step) {
  let text = "", down = false, last = 0;
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null || ys[i] === undefined) { down = false; continue; }
    const px = toX(xs[i]).toFixed(1), py = toY(ys[i]).toFixed(1);
    text += down ? (step ? `V${py}H${px}` : `L${px} ${py}`) : `M${px} ${py}`;
    down = true; last = i;
  }
  return text.includes("L") || text.includes("H") ? text : text + (text ? "h0.01" : "") + (last < 0 ? "" : "");
}

/** Lines `{name, x, y, dash}` with legend and a tip that follows the pointer; `marks(frame)` draws on top. */
function lineChart(host, { lines, x, y, xTitle, yTitle, label, height = 300, xText = three, marks = () => [] }) {
  if (!lines.some((line) => line.y.some((value) => value !== null))) {
    draw(host, () => [h("p", { class: "empty" }, "Nothing to draw: there is no object or no detection.")]);
    return;
  }
  draw(host, (width) => {
    const plot = frame({ width, height, x, y, xTitle, yTitle, label });
    lines.forEach((line, i) => plot.svg.append(s("path", {
      class: "line", stroke: line.colour || COLOURS[i % COLOURS.length], "stroke-dasharray": line.dash,
      "stroke-linecap": "round", d: pathOf(line.x, line.y, plot.toX, plot.toY, line.step),
    })));
    plot.svg.append(...marks(plot));
    const tip = h("div", { class: "tip", hidden: true });
    const cursor = s("line", { class: "axis", y1: MARGIN.top, y2: plot.bottom, visibility: "hidden" });
    plot.svg.append(cursor);
    plot.svg.addEventListener("pointermove", (event) => showTip(event, { plot, lines, x, xText, xTitle, tip, cursor, host }));
    plot.svg.addEventListener("pointerleave", () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); });
    return [lines.length > 1 ? legend(lines) : "", plot.svg, tip].filter(Boolean);
  });
}

function legend(lines) {
  return h("div", { class: "legend" }, ...lines.map((line, i) => h("span", {},
    s("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, s("line", {
      x1: 1, x2: 21, y1: 4, y2: 4, stroke: line.colour || COLOURS[i % COLOURS.length], "stroke-width": 2.5,
      "stroke-dasharray": line.dash })), line.name)));
}

function showTip(event, { plot, lines, x, xText, xTitle, tip, cursor, host }) {
  const box = plot.svg.getBoundingClientRect();
  const scale = plot.svg.viewBox.baseVal.width / box.width;
  const at = (event.clientX - box.left) * scale;
  if (at < MARGIN.left || at > plot.right) return;
  const value = x[0] + ((at - MARGIN.left) / (plot.right - MARGIN.left)) * (x[1] - x[0]);
  const rows = lines.map((line) => [line.name, line.y[nearest(line.x, value)]]);
  tip.replaceChildren(h("div", { class: "quiet" }, `${xTitle} ${xText(value)}`),
    ...rows.map(([name, number]) => h("div", {}, `${name}: ${number === null ? "–" : +number.toPrecision(4)}`)));
  tip.hidden = false;
  const left = (event.clientX - box.left) + 14;
  tip.style.left = `${Math.min(left, box.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${event.clientY - host.getBoundingClientRect().top + 14}px`;
  cursor.setAttribute("x1", at); cursor.setAttribute("x2", at); cursor.setAttribute("visibility", "visible");
}

function nearest(xs, value) {
  let best = 0;
  for (let i = 1; i < xs.length; i++) if (Math.abs(xs[i] - value) < Math.abs(xs[best] - value)) best = i;
  return best;
}

/** A domain around values, never empty. */
function domain(values, { low = Infinity, high = -Infinity } = {}) {
  for (const value of values) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!(low < high)) return Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  return [low, high];
}
