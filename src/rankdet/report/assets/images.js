// Images with objects and detections: the worst ones, and one to look at.

const OBJECT_STATES = ["found", "missed", "ignored"];
const DETECTION_STATES = ["true", "false", "ignored"];
const STATE_TEXTS = { found: "object, found", missed: "object, missed", true: "detection, correct", false: "detection, false", ignored: "does not count" };
const WORST = { missed: "Missed objects", false: "False detections", located: "Badly located",
  worse: "Worse than the other", better: "Better than the other" };
const MOST_NAMES = 200, MOST_NAMED_THINGS = 14;
const images = data.images.entries;
const browser = { place: 0, kind: "missed" };

const objectsOf = (entry) => entry.truth.map(([category, kind, x, y, w, ht, path]) =>
  ({ category, kind: OBJECT_STATES[kind], box: [x, y, w, ht], path }));
const detectionsOf = (entry) => entry.found.map(([category, kind, score, iou, deployed, x, y, w, ht, path]) =>
  ({ category, kind: DETECTION_STATES[kind], score, iou, deployed: Boolean(deployed), box: [x, y, w, ht], path }));

/** Width and height; where the file does not say, as much as the boxes need. */
function sizeOf(entry) {
  if (entry.width > 0 && entry.height > 0) return [entry.width, entry.height];
  const boxes = [...objectsOf(entry), ...detectionsOf(entry)].map(({ box }) => box);
  return [Math.max(1, ...boxes.map(([x, , w]) => x + w)), Math.max(1, ...boxes.map(([, y, , ht]) => y + ht))];
}

/** An image as SVG with the given things in it, those named first lying lowest. */
function scene(entry, things, withNames) {
  const [width, height] = sizeOf(entry);
  const svg = s("svg", { class: "scene", viewBox: `0 0 ${width} ${height}`, role: "img", preserveAspectRatio: "xMidYMid meet",
    "aria-label": `Image ${entry.id}: ${entry.truth.length} objects` });
  if (entry.picture) svg.append(s("image", { href: entry.picture, width, height, preserveAspectRatio: "none" }));
  const size = Math.max(width, height) / 38;
  for (const thing of things) {
    const [x, y, w, ht] = thing.box, box = { x, y, width: Math.max(w, 0), height: Math.max(ht, 0) };
    if (thing.path) svg.append(s("path", { class: thing.kind, d: thing.path }));
    svg.append(s("rect", { class: "halo", ...box }), s("rect", { class: thing.kind, ...box }, s("title", {}, describe(thing))));
    if (withNames && thing.kind !== "found" && thing.kind !== "ignored") {
      const text = names[thing.category] + (thing.score === undefined ? "" : ` ${scoreText(thing.score)}`);
      const above = y > size * 1.2;
      svg.append(s("text", { x: Math.max(0, Math.min(x, width - text.length * size * 0.55)), y: above ? y - size * 0.3 : y + size,
        style: null, "font-size": size, "stroke-width": size / 5 }, text));
    }
  }
  for (const text of svg.querySelectorAll("text")) text.style.fontSize = `${size}px`;
  return svg;
}

function describe(thing) {
  const score = thing.score === undefined ? "" : `, score ${scoreText(thing.score)}`;
  return `${names[thing.category]}: ${STATE_TEXTS[thing.kind]}${score}${thing.iou ? `, IoU ${thing.iou}` : ""}`;
}

const deployedThings = (entry) => [...objectsOf(entry), ...detectionsOf(entry).filter((thing) => thing.deployed && thing.kind !== "ignored").reverse()];

function showWorst() {
  const kinds = Object.entries(WORST).filter(([kind]) => kind in data.images.worst);
  byId("worst-kinds").replaceChildren(...kinds.map(([kind, title]) => h("button", {
    type: "button", "aria-pressed": String(kind === browser.kind), onclick: () => { browser.kind = kind; showWorst(); },
  }, title)));
  const places = data.images.worst[browser.kind];
  byId("gallery").replaceChildren(...(places.length ? places.map(figureOf) : [h("p", { class: "empty" }, "There is no such image.")]));
}

function figureOf(place) {
  const entry = images[place], found = detectionsOf(entry).filter((thing) => thing.deployed);
  const hits = found.filter((thing) => thing.kind === "true");
  const missed = objectsOf(entry).filter((thing) => thing.kind === "missed").length;
  const texts = {
    missed: `${missed} of ${entry.truth.length} objects missed`,
    false: `${found.filter((thing) => thing.kind === "false").length} false of ${found.length} detections`,
    worse: `${missed} missed, ${found.length - hits.length} false`,
    better: `${missed} missed, ${found.length - hits.length} false`,
    located: `lowest IoU ${hits.length ? Math.min(...hits.map((thing) => thing.iou)).toFixed(2) : "–"}`,
  };
  const name = `${entry.file}`;
  return h("figure", {},
    h("button", { type: "button", title: `Look at ${name}`, onclick: () => { look(place); byId("browse").scrollIntoView(); } },
      scene(entry, deployedThings(entry), deployedThings(entry).length <= MOST_NAMED_THINGS)),
    h("figcaption", {}, h("b", {}, texts[browser.kind]), ` · ${name}`));
}

function showKey() {
  const mark = (kind) => s("svg", { class: "scene", viewBox: "0 0 26 14", "aria-hidden": "true" }, s("rect", { class: kind, x: 3, y: 3, width: 20, height: 8 }));
  byId("key").append(...Object.entries(STATE_TEXTS).map(([kind, text]) => h("span", {}, mark(kind), text)));
}

function look(place) {
  browser.place = (place + images.length) % images.length;
  showImage();
}

function showImage() {
  const entry = images[browser.place];
  if (!entry) return;
  byId("show-all").disabled = !entry.all;
  const all = entry.all && byId("show-all").checked;
  const objects = byId("show-truth").checked ? objectsOf(entry) : [];
  const found = byId("show-found").checked ? detectionsOf(entry).filter((thing) => all || thing.deployed) : [];
  byId("image").replaceChildren(scene(entry, [...objects, ...[...found].reverse()], byId("show-names").checked));
  byId("image-table").replaceChildren(
    h("thead", {}, h("tr", {}, ...["Class", "", "Score", "IoU"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...[...found, ...objects.filter((thing) => thing.kind !== "found")].map((thing) => h("tr", { class: thing.kind },
      h("td", {}, names[thing.category]), h("td", {}, STATE_TEXTS[thing.kind]),
      h("td", {}, thing.score === undefined ? "" : scoreText(thing.score)), h("td", {}, thing.iou ? thing.iou.toFixed(2) : "")))));
  byId("image-filter").placeholder = short(entry.file, 40);
  const pictures = data.images.pictures, total = data.images.total;
  byId("browse-note").textContent = `${entry.file} (id ${entry.id}), image ${whole(browser.place + 1)} of ${whole(images.length)}`
    + (images.length < total ? `; the others of ${whole(total)} are left out to keep the page small` : "")
    + (entry.picture ? "." : `. ${pictures ? "Only " + whole(pictures) : "No"} images are embedded in this page; of this one there are the boxes alone.`)
    + (entry.all ? "" : " Detections below the threshold are left out.");
}

function findImage(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return;
  const exact = images.findIndex((entry) => String(entry.id) === wanted || entry.file.toLowerCase() === wanted);
  const place = exact >= 0 ? exact : images.findIndex((entry) => entry.file.toLowerCase().includes(wanted));
  if (place >= 0) look(place); else byId("browse-note").textContent = `No image here has the id or the name “${text.trim()}”.`;
}

function startImages() {
  const input = byId("image-filter");
  byId("image-names").append(...images.slice(0, MOST_NAMES).map((entry) => h("option", { value: entry.file })));
  input.addEventListener("change", () => findImage(input.value));
  byId("previous").addEventListener("click", () => look(browser.place - 1));
  byId("next").addEventListener("click", () => look(browser.place + 1));
  for (const id of ["show-truth", "show-found", "show-all", "show-names"]) byId(id).addEventListener("change", showImage);
  showKey(); showWorst(); showImage();
}
