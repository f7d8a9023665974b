// A small box beside what the pointer or the keyboard is on.
const box = document.createElement("div");
box.className = "tip";
box.setAttribute("role", "tooltip");
box.hidden = true;
document.body.append(box);

// `lines`: texts; the first one is the title. They are never read as HTML.
export function show(anchor, lines) {
  box.replaceChildren(...lines.filter(Boolean).map((text, index) => {
    const part = document.createElement(index ? "p" : "b");
    part.textContent = text;
    return part;
  }));
  box.hidden = false;
  const at = anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - width - 8, at.left + at.width / 2 - width / 2));
  const below = at.bottom + 8 + height < innerHeight;
  // Styles set by script are the document's own doing: the content policy allows them.
  box.style.left = `${left}px`;
  box.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - height - 8)}px`;
}

export function hide() {
  box.hidden = true;
}
