"use strict";
// The audit page: queues of findings, a gallery that draws only what is in view, decisions with undo, the plan as CSV.
// Everything it knows is in the JSON block; nothing is requested from anywhere but, for images without an embedded picture, their own files.
const data = JSON.parse(document.getElementById("audit-data").textContent);
const $ = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en-US");
const text = (value) => document.createTextNode(value);
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.map((child) => (typeof child === "string" ? text(child) : child)));
  return node;
}

// ---- State: which queue, which filters, what was decided. Decisions are a map and a history of what each step replaced.
const state = { check: data.checks.length ? data.checks[0].check : null, cls: "", split: "", text: "", hideDecided: false, thresholds: {}, at: 0, queue: [] };
const decisions = new Map();
const history = [];
for (const check of data.checks) state.thresholds[check.check] = check.threshold;

const checkOf = (name) => data.checks.find((check) => check.check === name);
const findingsOf = new Map();
for (const finding of data.findings) {
  if (!findingsOf.has(finding.check)) findingsOf.set(finding.check, []);
  findingsOf.get(finding.check).push(finding);
}
const groupsOf = new Map();
for (const finding of data.findings) {
  if (finding.group === null || finding.sample === null) continue;
  const key = `${finding.check}/${finding.group}`;
  if (!groupsOf.has(key)) groupsOf.set(key, []);
  groupsOf.get(key).push(finding);
}

/** The findings of a check: given ones, or, where every image was measured, those on the wrong side of the live threshold. */
function found(name) {
  const check = checkOf(name);
  const limit = state.thresholds[name];
  if (check.values) {
    const detail = (value) => `${check.measure} ${value.toFixed(3)}, threshold ${limit.toFixed(3)}`;
    const list = [];
    check.values.forEach((value, sample) => {
      if (value !== null && (check.flag_below ? value < limit : value > limit)) {
        const score = check.flag_below ? 1 - value : value;
        list.push({ sample, check: name, score, given: data.labels[sample], suggested: null, group: null, detail: detail(value) });
      }
    });
    return list;
  }
  return (findingsOf.get(name) || []).filter((finding) => finding.score >= limit);
}

function passes(finding) {
  if (finding.sample === null) return true;
  const i = finding.sample;
  if (state.cls !== "" && data.labels[i] !== Number(state.cls)) return false;
  if (state.split !== "" && data.splits[i] !== state.split) return false;
  if (state.hideDecided && decisionOf(i, finding.check)) return false;
  return state.text === "" || data.ids[i].toLowerCase().includes(state.text);
}

function refresh(keep = false) {
  const current = state.queue[state.at];
  state.queue = state.check === null ? [] : found(state.check).filter(passes);
  const order = $("order").value;
  const byGroup = (a, b) => (a.group ?? 0) - (b.group ?? 0);
  const byId = (a, b) => (data.ids[a.sample] < data.ids[b.sample] ? -1 : 1);
  const byScore = (a, b) => b.score - a.score;
  state.queue.sort(order === "group" ? byGroup : order === "id" ? byId : byScore);
  const again = keep && current ? state.queue.findIndex((finding) => finding.sample === current.sample && finding.group === current.group) : -1;
  state.at = again >= 0 ? again : Math.min(keep ? state.at : 0, Math.max(state.queue.length - 1, 0));
  drawChecks();
  drawThreshold();
  drawGallery();
  drawDetail();
  drawBar();
  mapLater();
}

// ---- Decisions
// "Fine" is said of one finding; a new label or "drop" is said of the image, whichever check led to it.
const key = (sample, check) => `${sample}/${check}`;
function decisionOf(sample, check) {
  const own = decisions.get(key(sample, check));
  if (own) return own;
  for (const other of data.checks) {
    const decision = decisions.get(key(sample, other.check));
    if (decision && decision.decision !== "fine") return decision;
  }
  return undefined;
}
const describe = (decision) => (decision.decision === "relabel" ? `relabel: ${data.classes[decision.label]}` : decision.decision);

function decideCurrent(decision) {
  const finding = state.queue[state.at];
  if (!finding || finding.sample === null) return;
  if (decision.decision === "relabel" && (decision.label === null || decision.label === undefined)) return;
  const at = key(finding.sample, finding.check);
  history.push([at, decisions.get(at)]);
  decisions.set(at, { ...decision, sample: finding.sample, check: finding.check });
  if (!state.hideDecided) move(1);
  refresh(true);
}

function undo() {
  const last = history.pop();
  if (!last) return;
  const [at, before] = last;
  if (before) decisions.set(at, before);
  else decisions.delete(at);
  refresh(true);
}

const quote = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/** The plan: one row a decision, keyed by the content of the image. */
function plan() {
  const rows = [data.plan_columns.join(",")];
  for (const { sample, check, decision, label } of [...decisions.values()].sort((a, b) => a.sample - b.sample)) {
    const cell = { content: data.hashes[sample], check, decision, label: decision === "relabel" ? data.classes[label] : "", id: data.ids[sample] };
    rows.push(data.plan_columns.map((column) => quote(cell[column] ?? "")).join(","));
  }
  return rows.join("\n") + "\n";
}

function exportPlan() {
  const link = element("a", { href: URL.createObjectURL(new Blob([plan()], { type: "text/csv" })), download: "plan.csv" });
  document.body.append(link);
  link.click();
  link.remove();
}

// ---- Drawing
function drawChecks() {
  const list = data.checks.map((check) => {
    const n = check.check === state.check ? state.queue.length : found(check.check).length;
    const current = check.check === state.check;
    return element("li", {}, element("button", { type: "button", "aria-current": current ? "true" : undefined, "data-check": check.check, title: check.method,
      onclick: () => { state.check = check.check; refresh(); } }, element("span", {}, check.title), element("b", {}, count(n))));
  });
  $("checks").replaceChildren(...list);
}

function drawThreshold() {
  const check = checkOf(state.check);
  const box = $("threshold");
  if (!check) return box.replaceChildren();
  const limit = state.thresholds[check.check];
  const values = check.values ? check.values.filter((value) => value !== null) : (findingsOf.get(check.check) || []).map((finding) => finding.score);
  const low = Math.min(0, ...sampled(values)), high = Math.max(1, ...sampled(values));
  const bins = new Array(60).fill(0);
  for (const value of values) bins[Math.min(59, Math.max(0, Math.floor((60 * (value - low)) / (high - low || 1))))] += 1;
  const top = Math.max(1, ...bins);
  const flagged = (i) => { const middle = low + ((i + 0.5) / 60) * (high - low); return check.values && check.flag_below ? middle < limit : middle >= limit; };
  const bars = bins.map((n, i) => element("i", { class: flagged(i) ? "flagged" : undefined, style: `height:${n ? Math.max(4, (100 * Math.log1p(n)) / Math.log1p(top)) : 0}%` }));
  const slider = element("input", { type: "range", id: "limit", min: String(low), max: String(high), step: String((high - low) / 500), value: String(limit), "aria-label": "threshold",
    oninput: (event) => { state.thresholds[check.check] = Number(event.target.value); refresh(); $("limit").focus(); } });
  box.replaceChildren(
    element("p", { class: "method" }, check.method),
    element("div", { class: "histogram", "aria-hidden": "true" }, ...bars),
    slider,
    element("p", { class: "small" }, `${check.values ? check.measure : "score"} ${check.values && check.flag_below ? "below" : "from"} ${limit.toFixed(3)}: ${count(state.queue.length)} after the filters`));
}

/** At most 10,000 of the values: enough for their range, and a call takes no more arguments. */
const sampled = (values) => (values.length <= 10000 ? values : values.filter((_, i) => i % Math.ceil(values.length / 10000) === 0));

const TILE = 132;
function columns() {
  return Math.max(1, Math.floor($("gallery").clientWidth / TILE));
}

const source = (sample) => data.pictures[sample] || data.files[sample];

function picture(sample, size) {
  const address = source(sample);
  if (!address) return element("span", { class: "blank", style: `width:${size}px;height:${size}px` }, "no picture");
  return element("img", { src: address, alt: data.ids[sample], width: size, height: size, loading: "lazy", decoding: "async" });
}

function tile(index) {
  const finding = state.queue[index];
  if (finding.sample === null) {
    return element("button", { type: "button", class: "tile whole", "data-index": index, "aria-selected": index === state.at, onclick: () => select(index) }, finding.detail);
  }
  const decision = decisionOf(finding.sample, finding.check);
  const label = finding.given === null || finding.given === undefined ? "" : data.classes[finding.given];
  const caption = finding.suggested === null || finding.suggested === undefined ? label : `${label} → ${data.classes[finding.suggested]}`;
  return element("button", { type: "button", class: `tile ${decision ? decision.decision : ""}`, "data-index": index, "aria-selected": index === state.at, title: data.ids[finding.sample],
    onclick: () => select(index) }, picture(finding.sample, TILE - 16), element("span", { class: "caption" }, caption), element("span", { class: "score" }, decision ? describe(decision) : finding.score.toFixed(3)));
}

/** Only the rows in view are in the document: a queue of 100,000 scrolls as one of 100. */
function drawGallery() {
  const box = $("gallery"), across = columns(), height = TILE + 34;
  const rows = Math.ceil(state.queue.length / across);
  const first = Math.max(0, Math.floor(box.scrollTop / height) - 2);
  const last = Math.min(rows, first + Math.ceil(box.clientHeight / height) + 5);
  const inside = element("div", { class: "rows", style: `height:${rows * height}px` });
  for (let row = first; row < last; row++) {
    const line = element("div", { class: "row", style: `top:${row * height}px` });
    for (let i = row * across; i < Math.min((row + 1) * across, state.queue.length); i++) line.append(tile(i));
    inside.append(line);
  }
  if (!state.queue.length) inside.append(element("p", { class: "nothing" }, "Nothing here: the check found nothing, or the filters hide it."));
  box.replaceChildren(inside);
}

function select(index) {
  state.at = index;
  drawGallery();
  drawDetail();
  mapLater();
}

function move(step) {
  if (!state.queue.length) return;
  state.at = Math.min(Math.max(state.at + step, 0), state.queue.length - 1);
  const box = $("gallery"), height = TILE + 34, top = Math.floor(state.at / columns()) * height;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
  drawGallery();
  drawDetail();
  mapLater();
}

/** The nearest images on the map: what the network finds alike. */
function neighbours(sample, k) {
  const here = data.map[sample];
  if (!here) return [];
  const distance = ([x, y]) => (x - here[0]) ** 2 + (y - here[1]) ** 2;
  const best = [];
  data.map.forEach((point, i) => {
    if (!point || i === sample) return;
    const d = distance(point);
    if (best.length < k || d < best[best.length - 1][0]) {
      best.push([d, i]);
      best.sort((a, b) => a[0] - b[0]);
      if (best.length > k) best.pop();
    }
  });
  return best.map(([, i]) => i);
}

function small(sample, note) {
  const label = data.labels[sample] === null ? "no label" : data.classes[data.labels[sample]];
  return element("figure", {}, picture(sample, 92), element("figcaption", {}, note ? `${label}, ${note}` : label));
}

function drawDetail() {
  const box = $("detail"), finding = state.queue[state.at];
  if (!finding) return box.replaceChildren();
  if (finding.sample === null) return box.replaceChildren(element("p", {}, finding.detail));
  const i = finding.sample, decision = decisionOf(i, finding.check);
  const rows = [["image", data.ids[i]], ["given", data.labels[i] === null ? "–" : data.classes[data.labels[i]]]];
  if (finding.suggested !== null && finding.suggested !== undefined) rows.push(["suggested", data.classes[finding.suggested]]);
  rows.push(["score", finding.score.toFixed(4)], ["why", finding.detail]);
  if (data.splits[i]) rows.push(["split", data.splits[i]]);
  rows.push(["decision", decision ? describe(decision) : "none yet"]);
  const choice = element("select", { id: "relabel", "aria-label": "another label", onchange: (event) => { if (event.target.value !== "") decideCurrent({ decision: "relabel", label: Number(event.target.value) }); } },
    element("option", { value: "" }, "another label …"), ...data.classes.map((name, k) => element("option", { value: String(k) }, name)));
  const buttons = [element("button", { type: "button", id: "fine", onclick: () => decideCurrent({ decision: "fine" }) }, "Fine (a)")];
  if (finding.suggested !== null && finding.suggested !== undefined) {
    buttons.push(element("button", { type: "button", id: "take", onclick: () => decideCurrent({ decision: "relabel", label: finding.suggested }) }, `${data.classes[finding.suggested]} (r)`));
  }
  buttons.push(choice, element("button", { type: "button", id: "drop", onclick: () => decideCurrent({ decision: "drop" }) }, "Drop (d)"));
  const mates = (groupsOf.get(`${finding.check}/${finding.group}`) || []).filter((mate) => mate.sample !== i);
  const near = neighbours(i, 6);
  box.replaceChildren(
    picture(i, 260),
    element("div", { class: "buttons" }, ...buttons),
    element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    ...(mates.length ? [element("h3", {}, "Same group"), element("div", { class: "strip" }, ...mates.slice(0, 12).map((mate) => small(mate.sample, data.splits[mate.sample])))] : []),
    ...(near.length ? [element("h3", {}, "Nearest on the map"), element("div", { class: "strip" }, ...near.map((k) => small(k)))] : []));
}

function drawBar() {
  const kinds = { fine: 0, relabel: 0, drop: 0 };
  for (const decision of decisions.values()) kinds[decision.decision] += 1;
  $("tally").textContent = `${count(decisions.size)} decided: ${kinds.fine} fine, ${kinds.relabel} relabelled, ${kinds.drop} dropped`;
  $("undo").disabled = history.length === 0;
  $("export").disabled = decisions.size === 0;
}

// ---- The map of features, on a canvas: 100,000 points are no elements.
const hue = (k, alpha = 1) => `hsl(${(k * 137.5) % 360} 62% 48% / ${alpha})`;
const MARGIN = 8;
let pointed = null;
function drawMap() {
  const canvas = $("map");
  if (!canvas) return;
  const scale = window.devicePixelRatio || 1, size = canvas.clientWidth;
  canvas.width = canvas.height = size * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const place = (i) => data.map[i].map((v) => MARGIN + v * (size - 2 * MARGIN));
  const flagged = new Set(state.queue.map((finding) => finding.sample).filter((i) => i !== null && data.map[i]));
  const side = data.map.length > 20000 ? 1.6 : 3;
  data.map.forEach((point, i) => {
    if (!point || flagged.has(i)) return;
    const [x, y] = place(i);
    context.fillStyle = data.labels[i] === null ? "gray" : hue(data.labels[i], flagged.size ? 0.35 : 0.8);
    context.fillRect(x - side / 2, y - side / 2, side, side);
  });
  const ink = getComputedStyle(document.body).color;
  const ring = (i, radius, width) => {
    const [x, y] = place(i);
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = data.labels[i] === null ? "gray" : hue(data.labels[i]);
    context.fill();
    context.lineWidth = width;
    context.strokeStyle = ink;
    context.stroke();
  };
  for (const i of flagged) ring(i, 3.4, 1);
  for (const i of [pointed, state.queue[state.at]?.sample]) if (i !== null && i !== undefined && data.map[i]) ring(i, 6, 2.5);
}
let mapIsDue = false;
/** Draws before the next frame, once, however many changes there were. */
function mapLater() {
  if (mapIsDue || !$("map")) return;
  mapIsDue = true;
  requestAnimationFrame(() => { mapIsDue = false; drawMap(); });
}
function onMap(event) {
  const box = $("map").getBoundingClientRect();
  const x = (event.clientX - box.left - MARGIN) / (box.width - 2 * MARGIN), y = (event.clientY - box.top - MARGIN) / (box.height - 2 * MARGIN);
  let least = 0.0009;
  pointed = null;
  data.map.forEach((point, i) => { if (point) { const d = (point[0] - x) ** 2 + (point[1] - y) ** 2; if (d < least) [least, pointed] = [d, i]; } });
  drawMap();
  drawPointed();
}
/** The image pointed at, what was found of it, and what lies around it. */
function drawPointed() {
  if (pointed === null) return $("near").replaceChildren();
  const of = data.findings.filter((finding) => finding.sample === pointed);
  const open = (finding) => element("button", { type: "button", "data-open": finding.check, onclick: () => openFinding(finding) }, `${checkOf(finding.check)?.title ?? finding.check}, ${finding.score.toFixed(3)}`);
  $("near").replaceChildren(
    element("div", { class: "strip" }, small(pointed, data.ids[pointed]), ...neighbours(pointed, 8).map((i) => small(i))),
    element("div", { class: "buttons" }, ...(of.length ? of.map(open) : [element("span", { class: "small" }, "nothing was found about it")])));
}
function openFinding(finding) {
  Object.assign(state, { check: finding.check, cls: "", split: "", text: "", hideDecided: false });
  for (const [id, value] of [["class", ""], ["split", ""], ["search", ""]]) $(id).value = value;
  $("hide").checked = false;
  state.thresholds[finding.check] = checkOf(finding.check)?.threshold ?? 0;
  refresh();
  state.at = Math.max(0, state.queue.findIndex((other) => other.sample === finding.sample));
  move(0);
  $("review").scrollIntoView();
}

// ---- Keys and controls
function onKey(event) {
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const finding = state.queue[state.at];
  const actions = {
    ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()), j: () => move(1), k: () => move(-1),
    a: () => decideCurrent({ decision: "fine" }), d: () => decideCurrent({ decision: "drop" }), u: undo, e: exportPlan,
    r: () => { if (finding && finding.suggested !== null && finding.suggested !== undefined) decideCurrent({ decision: "relabel", label: finding.suggested }); else if ($("relabel")) $("relabel").focus(); },
  };
  if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
}

function fill(select, names) {
  select.append(...names.map(([value, name]) => element("option", { value }, name)));
}

fill($("class"), data.classes.map((name, k) => [String(k), name]));
fill($("split"), [...new Set(data.splits.filter((split) => split))].sort().map((name) => [name, name]));
$("class").addEventListener("change", (event) => { state.cls = event.target.value; refresh(); });
$("split").addEventListener("change", (event) => { state.split = event.target.value; refresh(); });
$("search").addEventListener("input", (event) => { state.text = event.target.value.toLowerCase(); refresh(); });
$("order").addEventListener("change", () => refresh());
$("hide").addEventListener("change", (event) => { state.hideDecided = event.target.checked; refresh(); });
$("undo").addEventListener("click", undo);
$("export").addEventListener("click", exportPlan);
$("gallery").addEventListener("scroll", drawGallery, { passive: true });
window.addEventListener("resize", () => { drawGallery(); mapLater(); });
document.addEventListener("keydown", onKey);
for (const link of document.querySelectorAll("[data-given]")) {
  link.addEventListener("click", () => { state.check = "label"; state.cls = link.dataset.given; $("class").value = state.cls; refresh(); $("review").scrollIntoView(); });
}
if ($("map")) {
  $("map").addEventListener("click", onMap);
  $("legend").replaceChildren(...data.classes.slice(0, 20).map((name, k) => element("li", {}, element("i", { style: `background:${hue(k)}` }), name)));
}
window.addEventListener("beforeunload", (event) => { if (history.length) event.preventDefault(); });
refresh();
drawMap();
