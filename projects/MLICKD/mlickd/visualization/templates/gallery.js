"use strict";

// The address after "#" holds the state: controls change the address, and render() reads it.

const page = JSON.parse(document.getElementById("data").textContent);
const MARKS = {
  right: ["✓", "right"],
  wrong: ["✗", "wrong"],
  missed: ["○", "missed"],
  ignored: ["–", "predicted, label unknown"],
  below: ["·", "below the threshold"],
};
const PREDICTED = ["right", "wrong", "ignored"];
const CARDS_AT_ONCE = 40;

const cards = document.getElementById("cards");
const large = document.getElementById("large");
const count = document.getElementById("count");
const more = document.getElementById("more");
const classes = document.getElementById("class");
const outcomes = document.getElementById("outcomes");
const regions = document.getElementById("regions");
const slider = document.getElementById("threshold");

let state = {};
let listed = []; // indices of the photos that pass the filters
let placed = 0; // number of these photos that have a card
let filtersOfCards = null;

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const shortScore = (score) => (score > 0 && score < 0.005 ? "<0.01" : score.toFixed(2));
const name = (category) => element("bdi", { textContent: page.classes[category] });

// The address.

function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const category = page.classes.indexOf(address.get("class"));
  const shown = (address.get("show") || "").split(",").filter((outcome) => Object.hasOwn(page.outcomes, outcome));
  const threshold = parseFloat(address.get("score"));
  const photo = page.photos.findIndex((candidate) => candidate.id === address.get("photo"));
  const [student, mapped] = (address.get("map") || "").split(/:(.*)/s);
  return {
    category: category >= 0 ? category : null,
    outcomes: shown,
    regions: address.get("regions") !== "off",
    threshold: threshold >= 0 && threshold <= 1 ? threshold : page.firstThreshold,
    photo: photo >= 0 ? photo : null,
    map: page.classes.includes(mapped) ? { student: Number(student), category: page.classes.indexOf(mapped) } : null,
  };
}

function address(changes) {
  const wanted = { ...state, ...changes };
  const parts = new URLSearchParams();
  if (wanted.category !== null) parts.set("class", page.classes[wanted.category]);
  if (wanted.outcomes.length) parts.set("show", wanted.outcomes.join(","));
  if (!wanted.regions) parts.set("regions", "off");
  if (wanted.threshold !== page.firstThreshold) parts.set("score", wanted.threshold);
  if (wanted.photo !== null) parts.set("photo", page.photos[wanted.photo].id);
  if (wanted.photo !== null && wanted.map) parts.set("map", `${wanted.map.student}:${page.classes[wanted.map.category]}`);
  return `#${parts}`;
}

// Render at once: the browser may send the event of the changed address only after the next key.
function go(changes) {
  history.replaceState(null, "", address(changes));
  render();
}

// Filters.

// Whether a class is a label or a prediction of a photo; without students, whether a region has the class.
function concerns(photo, category) {
  if (category === null || (photo.labels && photo.labels.includes(category))) return true;
  if (!photo.results.length && photo.regions) return photo.regions.some((region) => region[0] === category);
  return photo.results.some((rows) => rows.some(([about, , verdict]) => about === category && PREDICTED.includes(verdict)));
}

// The key in page.outcomes for one class, or for all classes if category is null; null if the labels are unknown.
function outcome(photo, category) {
  if (photo.labels === null || !photo.results.length) return null;
  const right = photo.results.map((rows) =>
    rows.every(([about, , verdict]) => (category !== null && about !== category) || !["wrong", "missed"].includes(verdict)),
  );
  if (right.length === 1) return right[0] ? "right" : "wrong";
  if (right[0] === right[1]) return right[0] ? "both-right" : "both-wrong";
  return right[1] ? "fixed" : "broken";
}

const passes = (photo, category) =>
  concerns(photo, category) && (!state.outcomes.length || state.outcomes.includes(outcome(photo, category)));

function renderFilters() {
  const matching = page.photos.filter((photo) => concerns(photo, state.category));
  for (const button of outcomes.querySelectorAll("button")) {
    const key = button.dataset.outcome;
    button.setAttribute("aria-pressed", key ? state.outcomes.includes(key) : !state.outcomes.length);
    const number = key ? matching.filter((photo) => outcome(photo, state.category) === key).length : matching.length;
    button.querySelector("span").textContent = number;
  }
  for (const option of classes.options) {
    const category = option.value === "" ? null : Number(option.value);
    const number = page.photos.filter((photo) => passes(photo, category)).length;
    option.textContent = `${category === null ? "all classes" : page.classes[category]} (${number})`;
  }
  classes.value = state.category === null ? "" : String(state.category);
  const total = page.photos.length;
  count.textContent = listed.length ? `${listed.length} of ${total} photos` : `None of ${total} photos matches.`;
}

function buildFilters() {
  classes.append(element("option", { value: "" }));
  page.classes.forEach((_, category) => classes.append(element("option", { value: String(category) })));
  classes.addEventListener("change", () => go({ category: classes.value === "" ? null : Number(classes.value) }));
  if (!Object.keys(page.outcomes).length) return;
  for (const [key, text] of [["", "All"], ...Object.entries(page.outcomes)]) {
    const button = element("button", { type: "button" }, text, element("span", {}));
    button.dataset.outcome = key;
    button.addEventListener("click", () => {
      const others = state.outcomes.filter((chosen) => chosen !== key);
      go({ outcomes: !key ? [] : others.length < state.outcomes.length ? others : [...others, key] });
    });
    outcomes.append(button);
  }
}

// Photos and their overlays.

function frameOf(index) {
  const photo = page.photos[index];
  const source = `data:image/webp;base64,${photo.image}`;
  const image = element("img", { src: source, width: photo.width, height: photo.height, decoding: "async" });
  const frame = element("span", { className: "frame" }, image, element("span", { className: "regions" }));
  frame.dataset.index = index;
  frame.style.setProperty("--ratio", photo.width / photo.height);
  frame.style.aspectRatio = `${photo.width} / ${photo.height}`;
  drawRegions(frame);
  return frame;
}

const shownRegions = (photo) =>
  (photo.regions || []).filter(
    ([category, score]) =>
      state.regions && score >= state.threshold && (state.category === null || category === state.category),
  );

function drawRegions(frame) {
  const photo = page.photos[frame.dataset.index];
  const shown = shownRegions(photo);
  const boxes = shown.map((region) => {
    const [category, score, x0, y0, x1, y1] = region;
    const box = element("span", { className: region === photo.regions[0] ? "box best" : "box" });
    for (const [side, value] of Object.entries({ left: x0, top: y0, right: page.edge - x1, bottom: page.edge - y1 })) {
      box.style[side] = `${(100 * value) / page.edge}%`;
    }
    box.append(element("span", { className: "box-name" }, name(category), ` ${shortScore(score)}`));
    return box;
  });
  frame.querySelector(".regions").replaceChildren(...boxes.reverse()); // the best lie above the others
  const texts = [`Photo ${photo.id}`];
  if (photo.labels) texts.push(`labels: ${photo.labels.map((category) => page.classes[category]).join(", ") || "none"}`);
  if (shown.length) {
    const found = shown.map(([category, score]) => `${page.classes[category]} ${shortScore(score)}`);
    texts.push(`regions of the teacher: ${found.join(", ")}`);
  }
  frame.querySelector("img").alt = texts.join("; ");
}

// Hide each name that would cover the name of a better region.
function placeNames(frame) {
  const taken = [];
  for (const box of [...frame.querySelectorAll(".box")].reverse()) {
    const label = box.firstChild;
    label.hidden = false;
    label.style.transform = "none";
    const [from, edge] = [label.getBoundingClientRect(), frame.getBoundingClientRect()];
    // Place the name above the box if it fits into the photo, else inside the box. It must not cross the right edge of the photo.
    const up = from.top - from.height >= edge.top ? -from.height : 0;
    const left = Math.min(0, edge.right - from.right);
    label.style.transform = `translate(${left}px, ${up}px)`;
    const to = label.getBoundingClientRect();
    const free = taken.every(
      (other) => to.right <= other.left || other.right <= to.left || to.bottom <= other.top || other.bottom <= to.top,
    );
    label.hidden = !free;
    if (free) taken.push(to);
  }
}

function renderRegions() {
  if (!regions) return;
  regions.checked = state.regions;
  slider.value = 100 * Math.sqrt(state.threshold);
  showThreshold();
  for (const frame of document.querySelectorAll(".frame")) drawRegions(frame);
  const open = large.querySelector(".frame");
  if (open) placeNames(open);
}

function showThreshold() {
  const score = shortScore(state.threshold);
  document.getElementById("threshold-value").textContent = score;
  slider.setAttribute("aria-valuetext", score);
}

// Most scores are low. The slider is finer there, because its value is the square root of the score.
function buildRegionControls() {
  if (!regions) return;
  regions.addEventListener("change", () => go({ regions: regions.checked }));
  slider.addEventListener("input", () => {
    state.threshold = Math.round(slider.value ** 2) / 10000;
    renderRegions();
  });
  slider.addEventListener("change", () => go({ threshold: state.threshold }));
}

// The cards.

function card(index) {
  const photo = page.photos[index];
  const verdict = outcome(photo, state.category);
  const title = element("span", { className: "name" }, element("bdi", { textContent: photo.id }));
  if (verdict) title.append(element("span", { className: `outcome ${verdict}`, textContent: page.outcomes[verdict] }));
  const lists = photo.results.map((rows, student) => {
    const shown = rows.filter(([, , verdict]) => verdict !== "below");
    const chips = shown.map(([category, , verdict]) =>
      element(
        "span",
        { className: `chip ${verdict}` },
        element("span", { textContent: `${MARKS[verdict][0]} `, ariaHidden: "true" }),
        name(category),
        element("span", { className: "unseen", textContent: ` (${MARKS[verdict][1]}) ` }),
      ),
    );
    if (!chips.length) chips.push(element("span", { className: "nothing", textContent: "nothing predicted" }));
    return element(
      "span",
      { className: "results" },
      element("span", { className: "student", textContent: page.students[student] }),
      element("span", { className: "chips" }, ...chips),
    );
  });
  const text = element("span", { className: "text" }, title, ...lists);
  const link = element("a", { className: "card", href: address({ photo: index }) }, frameOf(index), text);
  link.dataset.index = index;
  return link;
}

function placeCards(number) {
  const next = listed.slice(placed, placed + number);
  cards.append(...next.map(card));
  placed += next.length;
}

function renderCards() {
  const filters = JSON.stringify([state.category, state.outcomes]);
  if (filters !== filtersOfCards) {
    filtersOfCards = filters;
    cards.replaceChildren();
    placed = 0;
    placeCards(CARDS_AT_ONCE);
  }
  for (const link of cards.children) link.href = address({ photo: Number(link.dataset.index) });
}

function buildCards() {
  const watcher = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting) || placed >= listed.length) return;
      placeCards(CARDS_AT_ONCE);
      // The observer reports only changes. Watch again, because the end of the page may still be in view.
      watcher.unobserve(more);
      watcher.observe(more);
    },
    { rootMargin: "1200px" },
  );
  watcher.observe(more);
}

// The large view.

function listOf(photo, student) {
  const thresholds = page.thresholds[student];
  const rows = photo.results[student].map(([category, score, verdict]) => {
    const bar = element("span", { className: "bar" }, element("i", {}));
    bar.firstChild.style.width = `${100 * score}%`;
    bar.append(element("b", {}));
    bar.lastChild.style.left = `${100 * thresholds[category]}%`;
    const content = [
      element("span", { className: "mark", textContent: MARKS[verdict][0], ariaHidden: "true" }),
      element("span", { className: "about" }, name(category), element("small", { textContent: ` ${MARKS[verdict][1]}` })),
      element("span", { className: "score", textContent: shortScore(score) }),
      bar,
    ];
    if (!(category in photo.maps[student])) return element("li", {}, element("span", { className: `row ${verdict}` }, ...content));
    const shown = state.map && state.map.student === student && state.map.category === category;
    const button = element("button", { type: "button", className: `row ${verdict}`, ariaPressed: String(shown) }, ...content);
    button.title = "Show its class activation map";
    button.dataset.map = `${student}:${category}`;
    button.addEventListener("click", () => go({ map: shown ? null : { student, category } }));
    return element("li", {}, button);
  });
  return element("section", { className: "list" }, element("h3", { textContent: page.students[student] }), element("ul", {}, ...rows));
}

function renderLarge() {
  large.hidden = state.photo === null;
  cards.hidden = count.hidden = !large.hidden;
  document.querySelector(".filters").hidden = !large.hidden;
  if (large.hidden) {
    large.replaceChildren();
    return;
  }
  const photo = page.photos[state.photo];
  const list = listed.includes(state.photo) ? listed : [...page.photos.keys()];
  const place = list.indexOf(state.photo);
  const focused = large.contains(document.activeElement) ? document.activeElement.dataset : {};
  const step = (title, text, other) => {
    const button = element("button", { type: "button", textContent: text, ariaLabel: title, disabled: other === undefined });
    button.dataset.step = title;
    button.addEventListener("click", () => go({ photo: other }));
    return button;
  };
  const frame = frameOf(state.photo);
  const caption = element("figcaption", {});
  const map = state.map && photo.maps[state.map.student]?.[state.map.category];
  if (map) {
    const student = page.students[state.map.student].toLowerCase();
    caption.append(`Where the ${student} student sees `, name(state.map.category));
    caption.append(`. Values from ${map.low.toFixed(2)} to ${map.high.toFixed(2)}, mean ${map.mean.toFixed(2)}.`);
    const layer = { className: "map", src: `data:image/png;base64,${map.image}`, alt: caption.textContent };
    frame.querySelector("img").after(element("img", layer));
  }
  const labels = photo.labels && photo.labels.flatMap((category, number) => [number ? ", " : "", name(category)]);
  const verdict = outcome(photo, state.category);
  large.replaceChildren(
    element(
      "nav",
      { ariaLabel: "Photos" },
      element("a", { className: "back", href: address({ photo: null, map: null }), textContent: "All photos" }),
      step("Previous photo", "←", list[place - 1]),
      element("span", { className: "place", textContent: `${place + 1} of ${list.length}` }),
      step("Next photo", "→", list[place + 1]),
    ),
    element("figure", {}, frame, caption),
    element(
      "div",
      { className: "lists" },
      element("h2", { id: "large-name" }, element("bdi", { textContent: photo.id })),
      verdict && element("p", {}, element("span", { className: `outcome ${verdict}`, textContent: page.outcomes[verdict] })),
      labels && element("p", {}, element("b", { textContent: "Labels: " }), ...(labels.length ? labels : ["none"])),
      ...photo.results.map((_, student) => listOf(photo, student)),
    ),
  );
  placeNames(frame);
  const again = [...large.querySelectorAll("button:not(:disabled)")].find(
    (button) => (focused.step && button.dataset.step === focused.step) || (focused.map && button.dataset.map === focused.map),
  );
  (again || large).focus({ preventScroll: true });
}

// Keys.

function focusNextCard(key) {
  const all = [...cards.children];
  const here = all.indexOf(document.activeElement);
  if (here < 0 && key !== "ArrowRight") return false; // up and down scroll the page
  const row = all.findIndex((link) => link.offsetTop > all[0].offsetTop);
  const columns = row < 0 ? all.length : row;
  const target = here + { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (target >= all.length) placeCards(CARDS_AT_ONCE);
  if (!cards.children[target]) return false;
  cards.children[target].focus();
  cards.children[target].scrollIntoView({ block: "nearest" });
  return true;
}

function showNextPhoto(key) {
  const button = large.querySelector(`[data-step="${{ ArrowRight: "Next photo", ArrowLeft: "Previous photo" }[key]}"]`);
  if (!button || button.disabled) return false;
  button.click();
  return true;
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && state.photo !== null) {
    go({ photo: null, map: null });
  } else if (event.key.startsWith("Arrow") && !event.target.matches("input, select")) {
    if (state.photo === null ? focusNextCard(event.key) : showNextPhoto(event.key)) event.preventDefault();
  }
}

// Start, and changes of the address.

function render() {
  const before = state.photo;
  state = readAddress();
  listed = [...page.photos.keys()].filter((index) => passes(page.photos[index], state.category));
  renderFilters();
  renderCards();
  renderLarge();
  renderRegions();
  if (state.photo !== null && before !== state.photo) window.scrollTo(0, 0);
  if (state.photo === null && typeof before === "number") showCard(before);
}

function showCard(index) {
  const place = listed.indexOf(index);
  if (place >= placed) placeCards(place + 1 - placed);
  const link = cards.children[place];
  if (!link) return;
  link.focus({ preventScroll: true });
  link.scrollIntoView({ block: "center" });
}

document.querySelector(".controls").hidden = false;
buildFilters();
buildRegionControls();
buildCards();
window.addEventListener("hashchange", render);
window.addEventListener("resize", () => large.querySelector(".frame") && placeNames(large.querySelector(".frame")));
document.addEventListener("keydown", onKey);
render();
