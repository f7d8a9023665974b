// A log: follows while it grows, search with Enter and Shift+Enter, only lines of some level.
const pre = document.getElementById("task-log");
const follow = document.getElementById("log-follow");
const search = document.getElementById("log-search");
const found = document.getElementById("log-found");
const level = document.getElementById("log-level");
const state = document.getElementById("log-state");
const MOST_LINES = 20000; // what a page keeps of a log that grows

let source = null;
let hits = [];
let at = -1;

function toEnd() {
  if (follow?.checked) pre.scrollTop = pre.scrollHeight;
}

function wanted(line) {
  const levels = level?.value.split(" ").filter(Boolean) ?? [];
  return !levels.length || levels.some((name) => line.classList.contains(name));
}

function sift(lines = pre.querySelectorAll(".line")) {
  for (const line of lines) line.hidden = !wanted(line);
}

// Marks what was searched for, text node by text node: a line's colours stay.
function mark(line, text) {
  const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (let node of nodes) {
    let place = node.data.toLowerCase().indexOf(text);
    while (place >= 0 && hits.length < 5000) {
      const hit = node.splitText(place);
      node = hit.splitText(text.length);
      const element = document.createElement("mark");
      hit.replaceWith(element);
      element.append(hit);
      hits.push(element);
      place = node.data.toLowerCase().indexOf(text);
    }
  }
}

function unmark() {
  for (const hit of hits) {
    const parent = hit.parentNode;
    hit.replaceWith(...hit.childNodes);
    parent?.normalize();
  }
  hits = [];
  at = -1;
}

function tellHits() {
  const text = search.value.trim();
  found.textContent = text ? (hits.length ? `${at + 1 || 1} of ${hits.length}` : "not found") : "";
}

function find() {
  unmark();
  const text = search.value.trim().toLowerCase();
  if (text) for (const line of pre.querySelectorAll(".line")) if (!line.hidden && line.textContent.toLowerCase().includes(text)) mark(line, text);
  if (hits.length) step(1);
  tellHits();
}

function step(by) {
  if (!hits.length) return;
  hits[at]?.classList.remove("current");
  at = (at + by + hits.length) % hits.length;
  hits[at].classList.add("current");
  if (follow) follow.checked = false;
  hits[at].scrollIntoView({ block: "center" });
  tellHits();
}

function add(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html; // made by the server, which escapes every line
  const lines = [...fresh.content.children];
  sift(lines);
  pre.append(fresh.content);
  for (let many = pre.childElementCount - MOST_LINES; many > 0; many -= 1) pre.firstElementChild.remove();
  const text = search?.value.trim().toLowerCase();
  if (text) for (const line of lines) if (!line.hidden) mark(line, text);
  if (text) tellHits();
  toEnd();
}

function listen() {
  if (!pre.dataset.stream || source) return;
  const url = new URL(pre.dataset.stream, location.href);
  url.searchParams.set("offset", pre.dataset.end);
  if (pre.dataset.level) url.searchParams.set("level", pre.dataset.level);
  source = new EventSource(url);
  source.addEventListener("lines", (event) => {
    const { html, end } = JSON.parse(event.data);
    pre.dataset.end = end;
    add(html);
    if (state) state.textContent = "The attempt goes on: what it writes appears here.";
  });
  source.addEventListener("end", () => {
    close();
    delete pre.dataset.stream;
    if (state) state.textContent = "The attempt is over.";
  });
  source.onerror = () => {
    if (source?.readyState === EventSource.CLOSED) {
      close();
      if (state) state.textContent = "The connection is lost: reload the page.";
    }
  };
}

function close() {
  source?.close();
  source = null;
}

if (pre) {
  level?.addEventListener("change", () => { sift(); find(); toEnd(); });
  let typing = 0;
  search?.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 150); });
  search?.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { search.value = ""; find(); }
  });
  follow?.addEventListener("change", toEnd);
  pre.addEventListener("wheel", (event) => { if (event.deltaY < 0 && follow) follow.checked = false; }, { passive: true });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  pre.scrollTop = pre.scrollHeight; // what went wrong is told last
  listen();
}
