// Elements and numbers. Text from data enters the page as text nodes and attributes only.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

/** An element with properties: on... are listeners, the others attributes; children are elements or texts. */
function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const three = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const whole = (value) => value.toLocaleString("en");

/** A score, rounded down so that a detection at such a threshold stays; more digits near 0 and 1. */
function scoreText(value) {
  if (value === null || value === undefined) return "–";
  const room = Math.min(value, 1 - value);
  const digits = room >= 0.1 || value === 0 || value === 1 ? 3 : Math.min(6, 3 - Math.floor(Math.log10(Math.max(room, 1e-9)) + 1));
  return (Math.floor(value * 10 ** digits + 1e-9) / 10 ** digits).toFixed(digits);
}

const short = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
