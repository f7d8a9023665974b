// The grid: arrow keys, Enter and click open a task instance, a tooltip tells of it. Without this the table is readable,
// and the runs' own pages lead to the tasks.
import * as tip from "./tip.js";

const region = document.getElementById("grid");
const known = new Map(); // path → what the server says of a task instance
let at = null; // [row key, run] of the cell that has the keyboard's place
let asked = 0;
let left = -1000; // when the focus left the grid

const table = () => region.querySelector("table.run-grid");
const heads = () => [...table().tHead.rows[0].cells];
const stateOf = (cell) => cell.className.match(/state-(\w+)/)?.[1].replaceAll("_", " ").replace(/^none$/, "no status");

function place(cell) {
  const head = heads()[cell.cellIndex];
  return { head, row: cell.parentElement, task: cell.parentElement.dataset.task, run: head?.dataset.run };
}

function path(cell) {
  const { row, task, run } = place(cell);
  if (!run || !cell.className || "group" in row.dataset) return null;
  return `${region.dataset.base}/${run}/${encodeURIComponent(task)}`;
}

function lines(cell, more) {
  const { head, task } = place(cell);
  return [task, `${stateOf(cell)}${cell.dataset.words ? `: ${cell.dataset.words}` : ""}`, `run ${head.dataset.runId}`, ...more];
}

async function tell(cell) {
  const url = path(cell);
  const mine = ++asked;
  if (!cell.className) return tip.hide();
  tip.show(cell, lines(cell, known.get(url) ?? []));
  if (!url || known.has(url)) return;
  await new Promise((done) => { setTimeout(done, 180); });
  if (mine !== asked) return;
  try {
    const answer = await fetch(`${url}?brief=1`, { credentials: "same-origin" });
    if (!answer.ok) return;
    known.set(url, await answer.json());
    if (mine === asked) tip.show(cell, lines(cell, known.get(url)));
  } catch {
    // A tooltip is no reason for a message.
  }
}

function tellRun(head) {
  const of = head.dataset;
  tip.show(head, [of.runId, `${of.state}${of.took === "–" ? "" : `, ${of.took}`}`, of.date, of.type.replaceAll("_", " "), of.words]);
}

function quiet() {
  asked += 1;
  tip.hide();
}

function prepare() {
  const grid = table();
  if (!grid) return;
  known.clear();
  grid.setAttribute("role", "grid");
  // A refresh takes the cells' tabindex away, and with it the focus; a new run moves the columns. The keyboard stays
  // with the task instance.
  const had = document.activeElement?.closest?.("#grid td") ?? (performance.now() - left < 100 && document.activeElement === document.body);
  let first = null;
  for (const row of grid.tBodies[0].rows) {
    for (const cell of row.cells) {
      if (cell.tagName !== "TD") continue;
      const { task, run } = place(cell);
      const current = at && at[0] === task && at[1] === run;
      cell.tabIndex = current ? 0 : -1;
      if (current) first = cell;
      cell.setAttribute("aria-label", cell.className ? `${task}, ${place(cell).head.dataset.date}: ${stateOf(cell)}` : `${task}: nothing`);
    }
  }
  if (had && first && had !== first) first.focus({ preventScroll: true });
  if (!first) {
    const last = grid.tBodies[0].rows[0]?.cells;
    if (last?.length > 1) last[last.length - 1].tabIndex = 0;
  }
}

function move(cell, down, right) {
  const rows = [...table().tBodies[0].rows];
  const row = rows[Math.max(0, Math.min(rows.length - 1, rows.indexOf(cell.parentElement) + down))];
  const next = row.cells[Math.max(1, Math.min(row.cells.length - 1, cell.cellIndex + right))];
  cell.tabIndex = -1;
  next.tabIndex = 0;
  const { task, run } = place(next);
  at = [task, run];
  next.focus();
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function open(cell, elsewhere) {
  const url = path(cell);
  if (url && elsewhere) window.open(url, "_blank", "noopener");
  else if (url) location.assign(url);
  else if ("group" in cell.parentElement.dataset) cell.parentElement.querySelector(".fold-link").click();
}

if (region && table()) {
  region.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (cell) open(cell, event.ctrlKey || event.metaKey);
  });
  region.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    if (!cell || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e6], End: [0, 1e6], PageDown: [10, 0], PageUp: [-10, 0] };
    if (event.key === "Enter" || event.key === " ") open(cell, false);
    else if (event.key === "Escape") quiet();
    else if (steps[event.key]) move(cell, ...steps[event.key]);
    else return;
    event.preventDefault();
  });
  region.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("td");
    const head = event.target.closest("thead th[data-run]");
    if (cell) tell(cell);
    else if (head) tellRun(head);
    else quiet();
  });
  region.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td");
    if (cell) {
      const { task, run } = place(cell);
      at = [task, run];
      tell(cell);
    }
  });
  region.addEventListener("mouseleave", quiet);
  region.addEventListener("focusout", () => { left = performance.now(); quiet(); });
  region.addEventListener("scroll", quiet);
  document.addEventListener("opskit:refreshed", prepare);
  prepare();
  region.scrollLeft = region.scrollWidth; // the newest runs stand on the right
}
