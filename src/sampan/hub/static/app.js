// Small comforts and live pages. Every page works without them.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- the rail: on a phone it is one line; the entry of this page is in sight.
const here = document.querySelector(".rail [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - 72;

// ---- clients of MLflow's print addresses of its own pages: ours are the same behind the #.
const behind = location.pathname === "/" && /^#(\/experiments\/\d+(\/runs\/[\w-]+)?)$/.exec(location.hash);
if (behind) location.replace(behind[1]);

// ---- forms: a filter answers as soon as a choice is made; its button is for those without this script.
for (const form of all("form.filter")) {
  for (const field of all("select", form)) field.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
  });
}
addEventListener("pageshow", () => { for (const field of all("form.filter :disabled")) field.disabled = false; });

// ---- keys: "/" searches, "f" goes to the page's filter, "j" and "k" through its list (Enter opens), "p" pauses,
// "1" to "9" press that choice of the case one is at, "r" goes to its reason, "c" says that one is at work on it.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && typing) {
    typing.blur();
    const link = typing.closest(".asking") && typing.closest(".asking").querySelector("a[href]");
    return link && link.focus();
  }
  if (typing) return;
  const field = { "/": "#search", f: "form.filter input" }[event.key];
  const step = { j: 1, k: -1 }[event.key];
  if (field) {
    const found = document.querySelector(field) || document.querySelector("form.filter input");
    if (found) { event.preventDefault(); found.focus(); found.select(); }
  } else if (step) {
    const rows = all("[data-list] tbody tr, li[data-key], [data-more]").map((row) => row.querySelector("a[href]")).filter(Boolean);
    const at = rows.findIndex((link) => link.closest("tr, li, [data-more]").contains(document.activeElement));
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    if (next) { event.preventDefault(); next.focus(); }
  } else if (/^[1-9cr]$/.test(event.key)) {
    const at = event.target.closest(".asking");
    const what = { r: "[name=reason]", c: "[data-claim]" }[event.key] || `[data-choice="${event.key}"]`;
    const choice = at && at.querySelector(what);
    if (choice) { event.preventDefault(); event.key === "r" ? choice.focus() : event.key === "c" ? claim(choice.form.action) : choice.click(); }
  } else if (event.key === "p" && mark && !mark.hidden) mark.click();
});

// ---- cases: whoever begins to write an answer is at work on it, so that nobody else answers meanwhile.
const claim = (address) => fetch(address, { method: "POST", body: new URLSearchParams(), redirect: "manual" });
document.addEventListener("focusin", (event) => {
  const form = event.target.matches("textarea, select") && event.target.closest("form[data-claims]");
  if (form && !form.dataset.told) { form.dataset.told = "1"; claim(form.dataset.claims); }
});

// ---- copying: a button with data-copy="#id" puts that element's text on the clipboard.
for (const button of all("button[data-copy]")) button.hidden = !navigator.clipboard;
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const word = button.textContent;
  await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = word; }, 1500);
});

// ---- changing a page in place: what is the same stays, with its focus, scroll, selection and open parts.
const name = (node) => (node.nodeType === 1 ? node.dataset.key || node.id : "");

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== 1) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  const own = (attribute) => attribute === "open" || attribute === "data-size";
  for (const { name, value } of [...fresh.attributes]) if (!own(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!own(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  if (old.matches("input, select, textarea, [data-chart], [data-output]")) return;
  const named = new Map([...old.children].filter(name).map((child) => [name(child), child]));
  let at = old.firstChild;
  const began = named.size;
  for (const next of [...fresh.childNodes]) {
    const label = name(next);
    const mine = label ? named.get(label) : at && !name(at) && at.nodeName === next.nodeName ? at : null;
    if (mine && mine.nodeName === next.nodeName) {
      if (mine === at) at = at.nextSibling;
      else old.insertBefore(mine, at);
      morph(mine, next);
    } else {
      const added = document.importNode(next, true);
      if (label && began) added.classList.add("new");
      old.insertBefore(added, at);
    }
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

// ---- live: parts with data-live="topic …" and an id are fetched again when that topic changes, elements with
// data-say="topic.name" get a text, paths with data-draw="topic.name" a line, pre[data-output] what a step prints.
const mark = document.getElementById("live");
const parts = all("main [data-live], main [data-say], main [data-draw]");
const topics = new Set(all("[data-live]").flatMap((part) => part.dataset.live.split(/\s+/)));
for (const part of all("[data-say], [data-draw]")) topics.add((part.dataset.say || part.dataset.draw).split(".")[0]);
topics.delete("");
let source = null, paused = false, pace = 1000, rendered = Number(document.body.dataset.made), looked = 0, timer = 0, due = new Set();

function show(word) {
  if (!mark) return;
  mark.dataset.state = word;
  mark.querySelector("span").textContent = word;
  mark.setAttribute("aria-pressed", String(paused));
  mark.title = paused ? "Go on (p)" : word === "live" ? "What changes is shown at once. Hold still (p)" : "";
}

function close() {
  if (source) source.close();
  source = null;
}

function open() {
  if (source || paused || document.hidden) return;
  source = new EventSource(`/live?topics=${[...topics].map(encodeURIComponent).join(",")}`);
  source.onopen = () => show("live");
  source.onerror = () => {
    show("reconnecting");
    if (source && source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 10000); }
  };
  for (const topic of topics) source.addEventListener(topic, (event) => take(topic, JSON.parse(event.data)));
}

function take(topic, news) {
  pace = 1000 * news.pace;
  for (const [key, text] of Object.entries(news.say || {}))
    for (const part of all(`[data-say="${topic}.${key}"]`)) { part.textContent = text; if (part.matches(".count")) part.hidden = text === "0"; }
  for (const [key, line] of Object.entries(news.draw || {}))
    for (const part of all(`[data-draw="${topic}.${key}"]`)) part.setAttribute("d", line);
  for (const part of all("pre[data-output]")) printed(part, (news.logs || {})[part.dataset.output]);
  if (news.changed > rendered) for (const part of all("[data-live][id]")) if (part.dataset.live.split(/\s+/).includes(topic)) due.add(part.id);
  document.dispatchEvent(new CustomEvent("live", { detail: { topic, news } }));
  plan();
}

// What a step has printed since: appended if it follows what is there, else the page is asked again.
function printed(part, news) {
  if (!news || news.size <= Number(part.dataset.size)) return;
  if (news.start !== Number(part.dataset.size)) { part.dataset.size = news.size; part.dataset.again = "1"; due.add(part.id); return; }
  const box = part.scrollHeight > part.clientHeight ? part : document.scrollingElement;
  const below = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  part.append(news.text);
  part.dataset.size = news.size;
  if (below) box.scrollTop = box.scrollHeight;
}

function plan() {
  if (due.size && !timer && !paused) timer = setTimeout(look, Math.max(100, looked + pace - Date.now()));
}

async function look() {
  const wanted = due;
  due = new Set();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.status === 401) { close(); show("signed out"); return; }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!paused) refresh(wanted, fresh);
  } catch { show("reconnecting"); } finally {
    looked = Date.now();
    timer = 0;
    plan();
  }
}

function refresh(wanted, fresh) {
  rendered = Number(fresh.body.dataset.made);
  for (const id of wanted) {
    const old = document.getElementById(id), next = fresh.getElementById(id);
    if (!old || !next) continue;
    if (old.dataset.again) { old.textContent = next.textContent; old.dataset.size = next.dataset.size; delete old.dataset.again; }
    else morph(old, next);
  }
  document.title = fresh.title;
  document.dispatchEvent(new CustomEvent("refreshed"));
}

if (mark && parts.length && window.EventSource) {
  mark.hidden = false;
  mark.addEventListener("click", () => {
    paused = !paused;
    if (paused) { close(); show("paused"); } else { show("reconnecting"); open(); plan(); }
  });
  // A page that nobody sees holds no connection: browsers allow six of them per hub.
  document.addEventListener("visibilitychange", () => { if (document.hidden) { close(); if (!paused) show("paused"); } else open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  show("reconnecting");
  open();
}
