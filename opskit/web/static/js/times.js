// Keeps "3 min ago" true, and adds the reader's own time to the titles.
const UNITS = [[60, 1, "s"], [3600, 60, "min"], [172800, 3600, "h"], [5184000, 86400, "d"], [63072000, 2592000, "months"], [Infinity, 31536000, "years"]];

function words(seconds) {
  const size = Math.abs(seconds);
  if (size < 5) return seconds >= 0 ? "just now" : "in a moment";
  const [, length, unit] = UNITS.find(([limit]) => size < limit);
  const text = `${Math.floor(size / length)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

export function update(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    if (!element.title.includes("\n")) element.title = `${element.title}\n${at.toLocaleString()} here`;
    if ("relative" in element.dataset) {
      const text = words((now - at.getTime()) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
  }
}

update();
setInterval(() => { if (!document.hidden) update(); }, 15000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
document.addEventListener("opskit:refreshed", () => update());
