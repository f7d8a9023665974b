// Live pages: the server tells that something changed; the page is fetched again, and the regions
// (elements with an id and data-live) whose HTML differs are made like the new ones.
import { morph } from "./morph.js";

const main = document.querySelector("main");
const status = document.getElementById("live-status");
const meta = (name, root = document) => root.querySelector(`meta[name="${name}"]`)?.content ?? "";
const SHORTEST = 700; // milliseconds between two refreshes
const known = new Map(); // region → the server's HTML of it

let source = null;
let renderedAt = Number(meta("rendered-at"));
let attempt = 0;
let retry = 0;
let pending = 0;
let busy = false;
let again = false;
let lastRefresh = 0;
let ended = false;

function regions(root) {
  return [...root.querySelectorAll("[data-live][id]")];
}

function tell(text) {
  if (!status) return;
  status.textContent = text;
  status.hidden = !text;
}

export function apply(fresh) {
  let changed = false;
  for (const region of regions(document)) {
    const wanted = fresh.getElementById(region.id);
    if (!wanted) continue;
    // The mask over the token is another one each time: that alone changes nothing.
    const html = wanted.outerHTML.replaceAll(/(name="csrf_token" value=")[^"]*/g, "$1");
    if (known.get(region.id) === html) continue;
    known.set(region.id, html);
    morph(region, wanted);
    changed = true;
  }
  const title = fresh.querySelector("title")?.textContent;
  if (title && document.title !== title) document.title = title;
  renderedAt = Number(meta("rendered-at", fresh)) || renderedAt;
  if (changed) document.dispatchEvent(new CustomEvent("opskit:refreshed"));
}

function finish(text) {
  ended = true;
  disconnect();
  tell(text);
}

export async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  lastRefresh = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Opskit-Live": "1" }, credentials: "same-origin" });
    const moved = new URL(answer.url).pathname;
    if (answer.status === 401 || (answer.redirected && moved === "/login")) {
      finish("Signed out: reload the page");
    } else if (answer.status === 403 || answer.status === 404) {
      finish("No longer there: reload the page");
    } else if (answer.ok) {
      apply(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
  } catch {
    // The event source notices, too, and says so.
  } finally {
    busy = false;
    if (again) {
      again = false;
      soon();
    }
  }
}

function soon() {
  if (pending || ended) return;
  const wait = Math.max(0, lastRefresh + SHORTEST - Date.now()) + Math.random() * 150;
  pending = setTimeout(() => {
    pending = 0;
    refresh();
  }, wait);
}

function connect() {
  clearTimeout(retry);
  if (source || ended || document.hidden) return;
  if (attempt > 1) refresh(); // where streams do not get through, the page is still looked at from time to time
  source = new EventSource(`/live?topic=${encodeURIComponent(main.dataset.liveTopic)}`);
  source.addEventListener("hello", (event) => {
    attempt = 0;
    tell("");
    // Nothing is missed between the making of the page and now: the server says since when it knows of no change.
    if (!(Number(event.data) < renderedAt)) soon();
  });
  source.addEventListener("change", soon);
  source.addEventListener("end", () => finish("Signed out: reload the page"));
  source.addEventListener("later", () => lost(false));
  source.onerror = () => lost(true);
}

function disconnect() {
  source?.close();
  source = null;
}

function lost(visibly) {
  disconnect();
  if (ended) return;
  attempt += 1;
  if (visibly && attempt > 1) tell("Connection lost, trying again…");
  const wait = Math.min(30000, 500 * 2 ** attempt) * (0.5 + Math.random());
  retry = setTimeout(connect, wait);
}

export function start() {
  if (!main?.dataset.liveTopic) return;
  for (const region of regions(document)) known.set(region.id, region.outerHTML);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(retry);
      disconnect();
    } else {
      attempt = 0;
      connect();
    }
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  connect();
}
