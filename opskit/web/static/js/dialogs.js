// [data-dialog="id"] opens a <dialog>; [data-close-dialog], and a click beside it, close it.
export function show(id) {
  const dialog = document.getElementById(id);
  if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    event.preventDefault();
    show(opener.dataset.dialog);
    return;
  }
  const closer = event.target.closest("[data-close-dialog]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog")?.close();
    return;
  }
  if (event.target instanceof HTMLDialogElement && event.target.open) {
    const box = event.target.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside && event.detail > 0) event.target.close();
  }
});
document.addEventListener("keydown", (event) => {
  // An opener that is a link is a button to those who can't see it: the space bar must work, too.
  if (event.key === " " && event.target.matches?.("a[data-dialog], a[data-close-dialog]")) {
    event.preventDefault();
    event.target.click();
  }
});
