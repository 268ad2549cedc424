// The overview, and the table of classes: sorted, filtered, and a page of it at a time.

const ROWS_OF_A_PAGE = 25;
const COLUMNS = [
  { key: "name", title: "Class", text: true },
  { key: "objects", title: "Objects", show: whole },
  { key: "AP", title: "AP" },
  { key: "AP50", title: "AP50" },
  { key: "AP75", title: "AP75" },
  { key: "oLRP", title: "oLRP", rising: true },
  { key: "oLRP_Loc", title: "Loc", rising: true, hint: "localisation error: mean 1 − IoU of correct detections" },
  { key: "oLRP_FP", title: "FP rate", rising: true, hint: "share of the detections that are false (1 − precision)" },
  { key: "oLRP_FN", title: "FN rate", rising: true, hint: "share of the objects that are missed (1 − recall)" },
  { key: "threshold", title: "Threshold", show: scoreText },
  { key: "live-precision", title: "Precision", live: "precision" },
  { key: "live-recall", title: "Recall", live: "recall" },
  { key: "live-lrp", title: "LRP", live: "lrp", rising: true },
];
const table = { sort: "objects", descending: true, page: 0, filter: "" };

function showOverview() {
  const metrics = data.metrics;
  byId("facts").append(...Object.entries(data.facts).flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  const tile = (name, value, text) => h("div", { class: "tile" }, h("span", {}, name), h("b", {}, three(value)), h("span", {}, text));
  byId("tiles").append(
    tile("AP ↑", metrics.AP, "how well detections are ranked, over IoU 0.50 to 0.95"),
    tile("AP50 ↑", metrics.AP50, "when an IoU of 0.50 is enough"),
    tile("oLRP ↓", metrics.oLRP, "what is wrong at the best thresholds"),
    tile("AR ↑", metrics.AR_300 ?? metrics.AR_100, "share of the objects that is found at all"));
  showSummary(metrics);
  const parts = [
    ["oLRP_FN", "Missed objects (FN rate)", "1 − recall"],
    ["oLRP_FP", "False detections (FP rate)", "1 − precision"],
    ["oLRP_Loc", "Boxes that fit badly (Loc)", "mean 1 − IoU of correct detections, at most 0.5"],
  ];
  byId("parts").append(...parts.map(([key, name, text]) => {
    const bar = h("i");
    bar.style.width = `${100 * (metrics[key] ?? 0)}%`;
    return h("div", { class: "meter" }, h("span", {}, data.masks ? name.replace("Boxes", "Masks") : name),
      h("i", { "aria-hidden": "true" }, bar), h("b", {}, three(metrics[key])), h("small", {}, text));
  }), h("p", { class: "quiet" }, "At the best threshold of each class, averaged over the classes; lower is better. "
    + "The largest part says where there is most to gain."));
}

function showSummary(metrics) {
  const rows = [
    ["All objects", "AP", "oLRP"], ["IoU 0.50", "AP50", null], ["IoU 0.75", "AP75", null],
    ...Object.entries(data.groups).map(([name, text]) => [text, `AP_${name}`, `oLRP_${name}`]),
    ["Rare classes", "AP_r", "oLRP_r"], ["Common classes", "AP_c", "oLRP_c"], ["Frequent classes", "AP_f", "oLRP_f"],
  ].filter(([, ap]) => ap in metrics);
  byId("summary").append(
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), h("th", { scope: "col" }, "AP ↑"), h("th", { scope: "col" }, "oLRP ↓"))),
    h("tbody", {}, ...rows.map(([name, ap, olrp]) => h("tr", {}, h("th", { scope: "row" }, name),
      h("td", {}, three(metrics[ap])), h("td", {}, olrp ? three(metrics[olrp]) : "")))));
}

const columnOf = (key) => COLUMNS.find((column) => column.key === key);

/** What a cell of the table sorts by. */
function valueOf(column, category) {
  return column.live ? atThreshold(category, state.threshold)[column.live] : data.classes[column.key][category];
}

function sortedClasses() {
  const column = columnOf(table.sort), wanted = table.filter.toLowerCase();
  const rows = names.map((name, category) => ({ category, value: valueOf(column, category) }))
    .filter(({ category }) => names[category].toLowerCase().includes(wanted));
  const sign = table.descending ? -1 : 1;
  return rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.category - b.category;
    const order = column.text ? a.value.localeCompare(b.value, "en", { numeric: true }) : a.value - b.value;
    return sign * order || a.category - b.category;
  }).map(({ category }) => category);
}

function showClasses() {
  const rows = sortedClasses(), pages = Math.max(1, Math.ceil(rows.length / ROWS_OF_A_PAGE));
  table.page = Math.min(table.page, pages - 1);
  const shown = rows.slice(table.page * ROWS_OF_A_PAGE, (table.page + 1) * ROWS_OF_A_PAGE);
  const focused = document.activeElement?.closest?.("#class-table thead th")?.dataset.key;
  byId("class-table").replaceChildren(classHead(), h("tbody", {}, ...shown.map(classRow)));
  if (focused) byId("class-table").querySelector(`th[data-key="${focused}"] button`).focus();
  byId("class-count").textContent = rows.length === names.length ? `${whole(rows.length)} classes`
    : `${whole(rows.length)} of ${whole(names.length)} classes`;
  byId("class-pages").replaceChildren(...(pages < 2 ? [] : [
    h("button", { type: "button", disabled: table.page === 0, onclick: () => turn(-1) }, "‹ Previous"),
    h("span", { class: "quiet" }, `Page ${table.page + 1} of ${pages}`),
    h("button", { type: "button", disabled: table.page === pages - 1, onclick: () => turn(1) }, "Next ›"),
  ]));
}

function turn(by) {
  table.page += by;
  showClasses();
}

function classHead() {
  const live = COLUMNS.filter((column) => column.live).length;
  const said = state.threshold === null ? "at the class’s threshold" : `at ${scoreText(state.threshold)}`;
  return h("thead", {},
    h("tr", { class: "groups" }, h("th", { colspan: COLUMNS.length - live }, ""), h("th", { colspan: live, class: "live", id: "live-title" }, said)),
    h("tr", {}, ...COLUMNS.map((column, i) => h("th", {
      scope: "col", "data-key": column.key, title: column.hint, class: column.live && !COLUMNS[i - 1].live ? "live" : null,
      "aria-sort": column.key === table.sort ? (table.descending ? "descending" : "ascending") : null,
    }, h("button", { type: "button", onclick: () => sortBy(column) }, column.title)))));
}

function sortBy(column) {
  table.descending = table.sort === column.key ? !table.descending : !(column.text || column.rising);
  Object.assign(table, { sort: column.key, page: 0 });
  showClasses();
}

function classRow(category) {
  const cells = COLUMNS.slice(1).map((column, i) => h("td", { class: column.live && !COLUMNS[i].live ? "live" : null },
    (column.show || three)(valueOf(column, category))));
  const name = h("button", { type: "button", class: "linklike", title: names[category], onclick: () => choose({ category }) }, names[category]);
  return h("tr", { class: category === state.category ? "chosen" : null }, h("th", { scope: "row" }, name), ...cells);
}

function startClasses() {
  byId("class-filter").addEventListener("input", (event) => {
    Object.assign(table, { filter: event.target.value, page: 0 });
    showClasses();
  });
  listeners.push(showClasses);
  showClasses();
}
