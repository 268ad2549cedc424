// Threshold with its slider, precision and recall, scores against IoU, reliability, training.

function startThreshold() {
  byId("slider").addEventListener("input", (event) => {
    const scores = curveOf(state.category).score;
    choose({ threshold: scores[scores.length - 1 - Number(event.target.value)] });
  });
  byId("optimum").addEventListener("click", () => choose({ threshold: null }));
  listeners.push(showThreshold);
  showThreshold();
}

function showThreshold() {
  const curve = curveOf(state.category), place = chosenPlace(), slider = byId("slider");
  const threshold = state.threshold ?? (place < 0 ? null : curve.score[place]);
  slider.max = Math.max(curve.score.length - 1, 0);
  slider.value = curve.score.length - 1 - Math.max(place, 0);
  slider.disabled = !curve.score.length;
  byId("slider-value").textContent = scoreText(threshold);
  byId("optimum").disabled = state.threshold === null;
  const values = valuesAt(state.category, place);
  slider.setAttribute("aria-valuetext", `${scoreText(threshold)}, LRP ${three(values.lrp)}`);
  const tile = (key, name, text) => h("div", { class: "tile" }, h("span", {}, name), h("b", { "data-key": key }, text));
  byId("readout").replaceChildren(
    tile("lrp", "LRP ↓", three(values.lrp)), tile("precision", "Precision ↑", three(values.precision)),
    tile("recall", "Recall ↑", three(values.recall)), tile("loc", "Loc ↓", three(values.loc)),
    tile("tp", "Correct", whole(values.tp)), tile("fp", "False", whole(values.fp)), tile("fn", "Missed", whole(values.fn)));
  drawThreshold(curve, threshold);
}

function drawThreshold(curve, threshold) {
  const points = curve.score.map((_, i) => valuesAt(state.category, i));
  const line = (name, key, dash) => ({ name, x: curve.score, y: points.map((point) => point[key]), dash });
  const best = bestPlace(state.category), x = domain(curve.score);
  const least = best < 0 ? null : points[best].lrp;
  lineChart(byId("threshold-chart"), {
    lines: least === null ? [] : [{ ...line("LRP (lower is better)", "lrp"), colour: "var(--c1)" }, { ...line("Precision", "precision"), colour: "var(--c0)" },
      { ...line("Recall", "recall", "6 4"), colour: "var(--c2)" }],
    x, y: [0, 1], xTitle: "Score threshold", label: `LRP, precision and recall over the score threshold: ${nameOf(state.category)}`,
    xText: scoreText, marks: (plot) => thresholdMarks(plot, curve.score[best], least, threshold),
  });
  const note = state.category === ALL
    ? `Means over the classes, with one threshold for all. The best such threshold gives ${three(least)}; a threshold for each class gives an oLRP of ${three(data.metrics.oLRP)}.`
    : least === null ? "" : `${nameOf(state.category)}: LRP is lowest, ${three(least)}, at a threshold of ${scoreText(curve.score[best])}.`
      + (curve.exact ? "" : ` The curve has ${curve.score.length} of the possible thresholds.`);
  byId("threshold-note").textContent = note;
}

function thresholdMarks({ toX, toY, bottom, right }, best, least, threshold) {
  const at = toX(best), end = at > right - 130;
  const marks = [
    s("line", { x1: at, x2: at, y1: MARGIN.top, y2: bottom, stroke: "var(--c1)", "stroke-dasharray": "3 4" }),
    s("circle", { cx: at, cy: toY(least), r: 5, fill: "var(--card)", stroke: "var(--c1)", "stroke-width": 2.5 }),
    s("text", { class: "strong", x: at + (end ? -9 : 9), y: toY(least) + (least > 0.2 ? 20 : -10), "text-anchor": end ? "end" : "start" },
      `optimum ${scoreText(best)}`),
  ];
  if (threshold !== null && state.threshold !== null) {
    const x = Math.min(Math.max(toX(threshold), MARGIN.left), right);
    marks.push(s("line", { x1: x, x2: x, y1: MARGIN.top, y2: bottom, stroke: "var(--ink)", "stroke-width": 1.5 }),
      s("path", { d: `M${x - 6} ${MARGIN.top - 8}h12l-6 8z`, fill: "var(--ink)" }));
  }
  return marks;
}

function showPrecision() {
  const dashes = [null, "7 4", "2 4"];
  const lines = Object.entries(data.precision).map(([name, curves], i) => {
    const values = state.category === ALL ? curves.all : curves.classes[state.category];
    const ys = (values || []).map((value) => value / 1000);
    return { name, x: ys.map((_, k) => k / Math.max(ys.length - 1, 1)), y: ys, dash: dashes[i] };
  });
  lineChart(byId("precision-chart"), {
    lines, x: [0, 1], y: [0, 1], xTitle: "Recall", yTitle: "Precision",
    label: `Precision over recall: ${nameOf(state.category)}`, xText: (value) => value.toFixed(2),
  });
}

function showScatter() {
  const { scatter } = data, chosen = [];
  for (let i = 0; i < scatter.score.length; i++) if (state.category === ALL || scatter.class[i] === state.category) chosen.push(i);
  const host = byId("scatter");
  if (!chosen.length) {
    draw(host, () => [h("p", { class: "empty" }, "No correct detection.")]);
  } else {
    const x = domain(chosen.map((i) => scatter.score[i]));
    draw(host, (width) => {
      const plot = frame({ width, height: 300, x, y: [data.thresholds.tau, 1], xTitle: "Score", yTitle: "IoU",
        label: `IoU over score of correct detections: ${nameOf(state.category)}` });
      const dots = chosen.map((i) => `M${plot.toX(scatter.score[i]).toFixed(1)} ${plot.toY(scatter.iou[i]).toFixed(1)}h0`).join("");
      plot.svg.append(s("path", { d: dots, stroke: "var(--c0)", "stroke-width": chosen.length > 800 ? 3.2 : 5,
        "stroke-linecap": "round", "stroke-opacity": chosen.length > 800 ? 0.35 : 0.55 }));
      return [plot.svg];
    });
  }
  const of = (kind) => three(state.category === ALL ? scatter[kind].all : scatter[kind].classes[state.category]);
  byId("scatter-note").textContent = `${nameOf(state.category)}: Pearson ${of("pearson")}, Spearman ${of("spearman")}`
    + (state.category === ALL ? " (means over the classes). " : ". ")
    + (scatter.score.length < scatter.total ? `${whole(chosen.length)} dots stand for ${whole(scatter.total)} correct detections of all classes.` : "");
}

function showReliability() {
  const { counts, confidence, precision, worth, d_ece, la_ece } = data.reliability;
  const total = counts.reduce((a, b) => a + b, 0), bins = counts.length;
  draw(byId("reliability"), (width) => {
    const plot = frame({ width, height: 300, x: [0, 1], y: [0, 1], xTitle: "Score", yTitle: "Precision", label: "Precision over score" });
    counts.forEach((count, i) => {
      if (!count) return;
      const left = plot.toX(i / bins), right = plot.toX((i + 1) / bins), top = plot.toY(precision[i]);
      const bar = s("rect", { x: left + 0.5, width: Math.max(right - left - 1, 1), y: top, height: Math.max(plot.bottom - top, 1.5),
        fill: "var(--c0)", "fill-opacity": 0.25 + 0.65 * Math.sqrt(count / Math.max(...counts)) });
      bar.append(s("title", {}, `scores ${(i / bins).toFixed(2)} to ${((i + 1) / bins).toFixed(2)}: ${whole(count)} detections, mean score ${three(confidence[i])}, precision ${three(precision[i])}`));
      plot.svg.append(bar);
    });
    plot.svg.append(s("path", { class: "line", stroke: "var(--c2)", d: pathOf(worth.map((_, i) => (i + 0.5) / bins), worth, plot.toX, plot.toY) }));
    plot.svg.append(s("line", { x1: plot.toX(0), y1: plot.toY(0), x2: plot.toX(1), y2: plot.toY(1), stroke: "var(--c1)", "stroke-width": 2, "stroke-dasharray": "6 4" }));
    const lines = [{ name: "Precision", colour: "var(--c0)" }, { name: "Precision × mean IoU", colour: "var(--c2)" }, { name: "Kept promise", colour: "var(--c1)", dash: "6 4" }];
    return [legend(lines), plot.svg];
  });
  byId("reliability-note").textContent = total
    ? `${whole(total)} detections from the best threshold of their class on: D-ECE ${three(d_ece[0])}, LaECE ${three(la_ece[0])} `
      + `(all detections: ${three(d_ece[1])} and ${three(la_ece[1])}). The darker a bar, the more detections.` : "No detection.";
}

function showTraining() {
  if (!data.training.length) return;
  byId("training").hidden = false;
  for (const { title, lines } of data.training) {
    const host = h("div", { class: "chart" });
    byId("training-charts").append(h("div", {}, h("h3", {}, title), host));
    const dashes = [null, "7 4", "2 4", "9 3 2 3"];
    lineChart(host, {
      lines: lines.map((line, i) => ({ ...line, dash: dashes[Math.floor(i / COLOURS.length) + (i % COLOURS.length > 3 ? 1 : 0)] })),
      x: domain(lines.flatMap((line) => line.x)), y: domain(lines.flatMap((line) => line.y), { low: 0 }),
      xTitle: "Step", label: title, height: 240, xText: (value) => whole(Math.round(value)),
    });
  }
}

function startCurves() {
  listeners.push(showPrecision, showScatter);
  showPrecision(); showScatter(); showReliability(); showTraining();
}
