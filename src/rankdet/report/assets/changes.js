// What changed from other results, where there are some to compare with.

const MOST_CHANGES = 25;
const LOWER_IS_BETTER = (name) => name.startsWith("oLRP");

const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(3));

/** Cells of a change `[this, other, low, high]`: the values, the difference and its interval, coloured if it leaves out 0. */
function changeCells([now, before, low, high], lowerIsBetter) {
  const difference = now === null || before === null ? null : now - before;
  const certain = low !== null && (low > 0 || high < 0);
  const kind = certain ? ((difference > 0) !== lowerIsBetter ? "gain" : "loss") : null;
  return [h("td", {}, three(now)), h("td", {}, three(before)), h("td", { class: kind }, signed(difference)),
    h("td", { class: "quiet" }, low === null ? "" : `${signed(low)} to ${signed(high)}`)];
}

function changeTable(host, title, rows) {
  byId(host).append(
    h("thead", {}, h("tr", {}, ...[title, "This", "Other", "Difference", "95 % interval"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(({ name, change, lower, chosen }) => h("tr", {}, h("th", { scope: "row" },
      chosen === undefined ? name : h("button", { type: "button", class: "linklike", onclick: () => choose({ category: chosen }) }, name)),
      ...changeCells(change, lower)))));
}

function showChanges() {
  const changes = data.comparison;
  if (!changes) return;
  byId("changes").hidden = false;
  changeTable("changed-metrics", "", Object.entries(changes.metrics).map(([name, change]) => ({ name, change, lower: LOWER_IS_BETTER(name) })));
  const size = ([now, before]) => (now === null || before === null ? -1 : Math.abs(now - before));
  const classes = changes.classes.map((row, category) => ({ name: names[category], change: row.AP, lower: false, chosen: category }))
    .sort((a, b) => size(b.change) - size(a.change)).slice(0, MOST_CHANGES);
  changeTable("changed-classes", "Class, AP", classes);
  const { both, this: alone, other, neither } = changes.found;
  byId("changes-note").textContent = `Of ${whole(both + alone + other + neither)} objects, ${whole(both)} are found by both, `
    + `${whole(alone)} only by this, ${whole(other)} only by the other, and ${whole(neither)} by neither, each at its best thresholds.`;
  byId("changes-resamples").textContent = whole(changes.resamples);
}
