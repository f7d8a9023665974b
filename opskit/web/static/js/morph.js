// Makes an element like another one by the fewest changes: focus, scroll positions and what is typed or open stay.
// Children are matched by id or data-key, else by their place. A subtree with data-live-keep is left alone.
const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset?.key || "" : "");
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
const OURS = new Set(["open", "data-ours"]);

function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(OURS.has(name) && from.matches("details, dialog"))) from.removeAttribute(name);
  }
  for (const { name, value } of [...to.attributes]) {
    if (name === "open" && from.matches("details, dialog")) continue;
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
}

function value(from, to) {
  if (from === document.activeElement) return;
  if (from instanceof HTMLInputElement) {
    if (from.type === "checkbox" || from.type === "radio") {
      if (from.defaultChecked === from.checked) from.checked = to.defaultChecked;
    } else if (from.value === from.defaultValue) {
      from.value = to.defaultValue;
    }
  } else if (from instanceof HTMLTextAreaElement && from.value === from.defaultValue) {
    from.value = to.defaultValue;
  }
}

export function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if ("liveKeep" in (from.dataset ?? {})) return;
  value(from, to);
  attributes(from, to);
  if (from.matches("textarea")) return;
  const keyed = new Map();
  for (const child of from.childNodes) if (key(child)) keyed.set(key(child), child);
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = key(wanted) ? keyed.get(key(wanted)) : undefined;
    if (known && known.nodeName === wanted.nodeName) {
      keyed.delete(key(wanted));
      if (known === place) place = place.nextSibling;
      else from.insertBefore(known, place);
      morph(known, wanted);
    } else if (place && alike(place, wanted) && !key(wanted)) {
      const current = place;
      place = place.nextSibling;
      morph(current, wanted);
    } else {
      from.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
