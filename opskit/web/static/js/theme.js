// Light, dark, or what the system says. The cookie lets the server name it, so a page never flashes.
const group = document.querySelector("[data-theme-switch]");

function choose(name) {
  document.documentElement.dataset.theme = name;
  const age = name === "system" ? 0 : 31536000;
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `opskit_theme=${name}; path=/; max-age=${age}; samesite=lax${secure}`;
  for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === name));
}

if (group) {
  group.hidden = false;
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(button.value);
  });
}
