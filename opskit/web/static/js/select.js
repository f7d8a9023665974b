// A box in the head of a table that ticks all boxes of its rows, and the number of those that are ticked.
// Without this each row is ticked by itself.
const boxes = (form) => [...form.querySelectorAll("tbody input[type=checkbox]")];

function show(form) {
  const all = boxes(form);
  const ticked = all.filter((box) => box.checked).length;
  const head = form.querySelector("[data-select-all]");
  head.checked = ticked > 0 && ticked === all.length;
  head.indeterminate = ticked > 0 && ticked < all.length;
  const said = form.querySelector("[data-selected]");
  said.textContent = ticked ? `${ticked} chosen` : "";
}

for (const form of document.querySelectorAll("form[data-selecting]")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-select-all]")) for (const box of boxes(form)) box.checked = event.target.checked;
    show(form);
  });
  // The table may be exchanged for a newer one, and a browser that goes back keeps what was ticked.
  new MutationObserver(() => show(form)).observe(form.querySelector("table"), { childList: true, subtree: true });
  show(form);
}
