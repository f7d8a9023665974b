// The graph: zoom by wheel, pinch, buttons and keys; move by dragging and arrow keys; a node shows what it is tied to.
// Without this the drawing stands in a frame that scrolls.
const frame = document.getElementById("graph-frame");
const svg = document.getElementById("graph");
const LARGEST = 2.5;

if (frame && svg) {
  const whole = { width: svg.viewBox.baseVal.width, height: svg.viewBox.baseVal.height };
  const pointers = new Map();
  let view = null; // left upper corner in the drawing's units, and pixels per unit
  let moved = 0;

  const draw = () => {
    const { clientWidth, clientHeight } = frame;
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${clientWidth / view.scale} ${clientHeight / view.scale}`);
  };

  const fit = () => {
    const { clientWidth, clientHeight } = frame;
    const scale = Math.min(1.2, clientWidth / whole.width, clientHeight / whole.height);
    // Small letters help nobody: a large graph begins at its beginning.
    const readable = Math.max(scale, 0.5);
    const place = (room, size) => (size * readable > room ? 0 : (size - room / readable) / 2);
    view = { scale: readable, x: place(clientWidth, whole.width), y: place(clientHeight, whole.height) };
    draw();
  };

  const zoom = (factor, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
    const least = Math.min(0.5, frame.clientWidth / whole.width, frame.clientHeight / whole.height) / 2;
    const scale = Math.max(least, Math.min(LARGEST, view.scale * factor));
    view.x += x / view.scale - x / scale;
    view.y += y / view.scale - y / scale;
    view.scale = scale;
    draw();
  };

  const pan = (dx, dy) => {
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    draw();
  };

  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { far: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };

  frame.classList.add("has-zoom");
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  svg.setAttribute("preserveAspectRatio", "xMinYMin meet");
  fit();

  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = frame.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - at.left, event.clientY - at.top);
  }, { passive: false });

  frame.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || event.button) return;
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const before = pointers.size === 2 ? spread() : null;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (before) {
      const now = spread();
      const at = frame.getBoundingClientRect();
      if (before.far) zoom(now.far / before.far, now.x - at.left, now.y - at.top);
      pan(now.x - before.x, now.y - before.y);
      moved = 99;
    } else {
      moved += Math.abs(event.clientX - last.x) + Math.abs(event.clientY - last.y);
      if (moved > 4) pan(event.clientX - last.x, event.clientY - last.y);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, (event) => pointers.delete(event.pointerId));
  // A link that was dragged is not meant to be followed.
  frame.addEventListener("click", (event) => { if (moved > 4) event.preventDefault(); }, true);
  frame.addEventListener("dragstart", (event) => event.preventDefault());

  frame.addEventListener("click", (event) => {
    const kind = event.target.closest("[data-zoom]")?.dataset.zoom;
    if (kind === "fit") fit();
    else if (kind) zoom(kind === "in" ? 1.3 : 1 / 1.3);
  });
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") fit();
    else if (steps[event.key]) pan(...steps[event.key]);
    else return;
    event.preventDefault();
  });

  // What the keyboard goes to must be seen.
  svg.addEventListener("focusin", (event) => {
    const node = event.target.closest?.("a");
    if (!node) return;
    near(node.dataset.n);
    const at = node.getBoundingClientRect();
    const of = frame.getBoundingClientRect();
    if (at.left < of.left || at.right > of.right || at.top < of.top || at.bottom > of.bottom) {
      pan(of.left + of.width / 2 - at.left - at.width / 2, of.top + of.height / 2 - at.top - at.height / 2);
    }
    frame.scrollTo(0, 0);
  });
  svg.addEventListener("focusout", () => near());
  svg.addEventListener("mouseover", (event) => near(event.target.closest?.("a.node")?.dataset.n));
  svg.addEventListener("mouseleave", () => near());

  let current;
  function near(number) {
    if (number === current) return;
    current = number;
    const ends = new Set([number]);
    for (const edge of svg.querySelectorAll(".edge")) {
      const [from, to] = edge.dataset.ends.split(" ");
      const touches = number !== undefined && (from === number || to === number);
      edge.classList.toggle("is-near", touches);
      if (touches) ends.add(from).add(to);
    }
    for (const node of svg.querySelectorAll(".node")) node.classList.toggle("is-far", number !== undefined && !ends.has(node.dataset.n));
  }

  addEventListener("resize", draw);
}
