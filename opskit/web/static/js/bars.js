// One tab stop for each row of bars; the arrow keys move among them.
document.addEventListener("keydown", (event) => {
  const link = event.target.closest?.("[data-bars] a");
  if (!link || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
  const links = [...link.closest("[data-bars]").querySelectorAll("a")];
  const at = links.indexOf(link);
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: links.length - 1 }[event.key];
  if (!links[next]) return;
  event.preventDefault();
  for (const one of links) one.setAttribute("tabindex", one === links[next] ? "0" : "-1");
  links[next].focus();
});
