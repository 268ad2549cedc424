// Puts the page together.

function startNavigation() {
  const sections = [...document.querySelectorAll("section")].filter((section) => !section.hidden);
  const links = sections.map((section) => h("a", { href: `#${section.id}` }, section.dataset.title));
  byId("nav").append(...links);
  const seen = new IntersectionObserver(() => {
    const current = sections.findLast((section) => section.getBoundingClientRect().top < 160) || sections[0];
    links.forEach((link, i) => (sections[i] === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  }, { rootMargin: "-80px 0px -40% 0px", threshold: [0, 0.25, 0.5, 1] });
  sections.forEach((section) => seen.observe(section));
}

function startPicker() {
  const select = byId("category");
  const order = names.map((_, category) => category).sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
  select.append(...[ALL, ...order].map((category) => h("option", { value: category }, nameOf(category))));
  select.addEventListener("change", () => choose({ category: Number(select.value) }));
  listeners.push(() => { select.value = String(state.category); });
}

showOverview();
startPicker();
startClasses();
showChanges();
startThreshold();
startCurves();
showConfusion();
startImages();
startNavigation();
document.documentElement.dataset.ready = "true";
