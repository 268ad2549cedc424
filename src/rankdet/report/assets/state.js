// What the reader chose, and what it gives: the class (-1 for all), and a score threshold (null: each class's own).

const data = JSON.parse(byId("data").textContent);
const ALL = -1;
const state = { category: ALL, threshold: null };
const listeners = [];

const names = data.classes.name;
const nothing = names.length;
const nameOf = (category) => (category === ALL ? "All classes" : category === nothing ? "nothing" : names[category]);

function choose(changes) {
  if ("category" in changes && changes.category !== state.category && !("threshold" in changes)) state.threshold = null;
  Object.assign(state, changes);
  for (const listener of listeners) listener();
}

/** The last of the falling scores that is at least `threshold`; -1 if there is none. */
function placeOf(scores, threshold) {
  let low = 0, high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] >= threshold) low = middle + 1; else high = middle;
  }
  return low - 1;
}

/** Counts and errors of one class when its detections from a threshold on are shown. */
function atThreshold(category, threshold) {
  const curve = data.thresholds.classes[category];
  return atPlace(category, threshold === null ? bestPlace(category) : placeOf(curve.score, threshold));
}

function atPlace(category, place) {
  const curve = data.thresholds.classes[category], objects = data.classes.objects[category];
  const kept = place >= 0;
  const tp = kept ? curve.tp[place] : 0, fp = kept ? curve.fp[place] : 0, fn = objects - tp;
  const loc = kept ? curve.loc[place] : 0, tau = data.thresholds.tau;
  return {
    tp, fp, fn,
    lrp: objects ? ((loc * tp) / (1 - tau) + fp + fn) / (tp + fp + fn) : null,
    precision: tp + fp ? tp / (tp + fp) : null,
    recall: objects ? tp / objects : null,
    loc: tp ? loc : null,
  };
}

/** The same for all classes with one threshold: means over the classes, and counts of all. */
function commonAt(place) {
  const curve = data.thresholds.all;
  if (place < 0) return { tp: 0, fp: 0, fn: curve.objects, lrp: 1, precision: null, recall: 0, loc: null };
  const row = (name) => curve[name][place];
  return {
    tp: row("tp"), fp: row("fp"), fn: curve.objects - row("tp"),
    lrp: row("lrp"), precision: row("precision"), recall: row("recall"), loc: row("loc"),
  };
}

const curveOf = (category) => (category === ALL ? data.thresholds.all : data.thresholds.classes[category]);
const valuesAt = (category, place) => (category === ALL ? commonAt(place) : atPlace(category, place));

/** The place of the lowest LRP. */
const bestPlaces = new Map();
function bestPlace(category) {
  if (!bestPlaces.has(category)) {
    const scores = curveOf(category).score;
    let best = scores.length ? 0 : -1, least = Infinity;
    for (let i = 0; i < scores.length; i++) {
      const lrp = valuesAt(category, i).lrp;
      if (lrp !== null && lrp < least) { least = lrp; best = i; }
    }
    bestPlaces.set(category, best);
  }
  return bestPlaces.get(category);
}

/** The place of the threshold that the reader chose, or the best one. */
function chosenPlace() {
  return state.threshold === null ? bestPlace(state.category) : placeOf(curveOf(state.category).score, state.threshold);
}
