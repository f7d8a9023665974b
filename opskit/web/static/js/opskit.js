// The module of every page. Each part finds what concerns it by data attributes, and also after a refresh.
import "./theme.js";
import "./times.js";
import "./menus.js";
import "./dialogs.js";
import "./keyboard.js";
import "./forms.js";
import { start } from "./live.js";

for (const element of document.querySelectorAll("[data-needs-script]")) element.hidden = false;
start();
