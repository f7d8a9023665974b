// Forms work without this. With it: a second click does not send twice, filters apply by themselves,
// and a form with data-async keeps the page where it is.
import { apply } from "./live.js";

async function send(form, submitter) {
  const body = new FormData(form, submitter);
  const answer = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(body),
    headers: { "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content },
    credentials: "same-origin",
  });
  if (new URL(answer.url).pathname === "/login") {
    location.assign(answer.url);
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const said = answer.ok ? fresh.getElementById("flash") : fresh.querySelector("main .notice");
  const flash = document.getElementById("flash");
  flash.replaceChildren(...(answer.ok ? said?.childNodes ?? [] : said ? [said] : []));
  if (answer.ok && new URL(answer.url).pathname === location.pathname) apply(fresh);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !(form instanceof HTMLFormElement) || form.method === "dialog") return;
  if (form.dataset.busy) {
    event.preventDefault();
    return;
  }
  form.dataset.busy = "1";
  const release = () => { delete form.dataset.busy; };
  if ("async" in form.dataset) {
    event.preventDefault();
    form.closest("dialog")?.close();
    send(form, event.submitter).catch(() => form.submit()).finally(release);
  } else {
    if (form.method === "get") for (const field of form.elements) if (field.name && field.value === "" && !field.disabled) { field.disabled = true; setTimeout(() => { field.disabled = false; }); }
    setTimeout(release, 4000);
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest?.("form[data-auto-submit]");
  if (form && event.target.matches("select, input[type=checkbox], input[type=radio]")) form.requestSubmit();
});

let typing = 0;
document.addEventListener("input", (event) => {
  const box = event.target;
  if (!box.matches?.("input[data-filter]")) return;
  clearTimeout(typing);
  typing = setTimeout(() => {
    const wanted = box.value.trim().toLowerCase();
    for (const item of document.querySelectorAll(`${box.dataset.filter} [data-item]`)) {
      item.hidden = wanted !== "" && !item.textContent.toLowerCase().includes(wanted);
    }
  }, 80);
});
