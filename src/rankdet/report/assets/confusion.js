// The confusion matrix, of all classes if they are few, else of those that are confused most.

const MOST_CLASSES = 16, MOST_PAIRS = 14;

function showConfusion() {
  const cells = new Map(data.confusion.cells.map(([truth, found, count]) => [`${truth},${found}`, count]));
  const classes = confusedClasses();
  const shown = [...classes, nothing];
  if (classes.length < names.length) {
    byId("confusion-title").textContent = `The ${classes.length} most confused of ${whole(names.length)} classes: objects (rows) and what they were detected as (columns)`;
  }
  const totals = new Map();
  for (const [truth, , count] of data.confusion.cells) totals.set(truth, (totals.get(truth) || 0) + count);
  byId("matrix").append(
    h("thead", {}, h("tr", {}, h("th", {}, ""), ...shown.map((category) => headOf(category, "col")))),
    h("tbody", {}, ...shown.map((truth) => h("tr", {}, headOf(truth, "row"),
      ...shown.map((found) => cellOf(truth, found, cells.get(`${truth},${found}`) || 0, totals.get(truth) || 1))))));
  showPairs();
}

function headOf(category, scope) {
  const text = category === nothing ? (scope === "col" ? "missed" : "false") : names[category];
  return h("th", { scope, title: text, class: category === nothing ? "nothing" : null }, short(text, 22));
}

function cellOf(truth, found, count, total) {
  if (truth === nothing && found === nothing) return h("td", {}, "");
  const share = truth === nothing ? Math.min(1, count / total) : count / total;
  const cell = h("td", { title: `${nameOf(truth)} detected as ${nameOf(found)}: ${whole(count)}` }, count ? whole(count) : "");
  if (count) cell.style.background = `rgba(var(${truth === found ? "--hit" : "--miss"}), ${(0.08 + 0.6 * Math.sqrt(share)).toFixed(2)})`;
  return cell;
}

/** Indices of the classes to show, in their order. */
function confusedClasses() {
  if (names.length <= MOST_CLASSES) return names.map((_, category) => category);
  const weight = new Map();
  const add = (category, count) => weight.set(category, (weight.get(category) || 0) + count);
  for (const [truth, found, count] of data.confusion.cells) {
    const isPair = truth !== found && truth !== nothing && found !== nothing;
    for (const category of new Set([truth, found])) if (category !== nothing) add(category, isPair ? count : count * 1e-6);
  }
  return [...weight.entries()].sort((a, b) => b[1] - a[1]).slice(0, MOST_CLASSES).map(([category]) => category).sort((a, b) => a - b);
}

function showPairs() {
  const pairs = data.confusion.cells.filter(([truth, found]) => truth !== found && truth !== nothing && found !== nothing);
  byId("pairs").append(pairs.length
    ? h("ol", {}, ...pairs.slice(0, MOST_PAIRS).map(([truth, found, count]) =>
      h("li", {}, h("span", {}, `${names[truth]} → ${names[found]}`), h("b", {}, whole(count)))))
    : h("p", { class: "empty" }, "No object was confused with another class."));
}
