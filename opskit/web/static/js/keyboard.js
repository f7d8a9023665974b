// Shortcuts: / searches, g and a letter goes, j and k walk through a list, ? explains.
import { show } from "./dialogs.js";

const PLACES = { h: "/", d: "/dags", a: "/datasets" };
const typing = (element) => element.matches?.("input, textarea, select, [contenteditable]") ?? false;
let going = 0;

function walk(step) {
  const items = [...document.querySelectorAll("[data-list] [data-item]")].filter((item) => item.offsetParent !== null);
  if (!items.length) return;
  const at = items.findIndex((item) => item.contains(document.activeElement) || item === document.activeElement);
  const next = items[at < 0 ? (step > 0 ? 0 : items.length - 1) : Math.min(items.length - 1, Math.max(0, at + step))];
  const target = next.matches("a, button") ? next : next.querySelector("[data-item-link], a[href]");
  target?.focus();
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (going && Date.now() - going < 1500 && PLACES[event.key]) {
    going = 0;
    event.preventDefault();
    location.assign(PLACES[event.key]);
    return;
  }
  going = 0;
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "g") {
    going = Date.now();
  } else if (event.key === "?") {
    event.preventDefault();
    show("keyboard-help");
  } else if (event.key === "j" || event.key === "k") {
    event.preventDefault();
    walk(event.key === "j" ? 1 : -1);
  }
});
