// Buttons, dialogs and forms of the account's pages: each action calls the API once, then says
// what came of it, on the page or, while a dialog is open, in the dialog.

import { signInAgain } from "./api.js";
import { recall, forget, remember } from "./store.js";
import { busy, hush, tell } from "./ui.js";

const region = document.querySelector("[data-message]");

export const find = (selector) => document.querySelector(selector);

export function complain(error, place = region) {
  if (error.status === 401) return signInAgain();
  tell(place, error.message);
  place.scrollIntoView({ block: "nearest" });
  return undefined;
}

/** Run `action(button)` for each press of the buttons that match. */
export function on(selector, action) {
  for (const button of document.querySelectorAll(selector)) {
    button.addEventListener("click", () => busy(button, () => action(button).catch((error) => complain(error))));
  }
}

/** Send a form by `action(fields, form)`; `place` is where problems are told. */
export function form(selector, action) {
  const element = find(selector);
  if (!element) return;
  const place = element.querySelector("[data-dialog-message]") ?? region;
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    hush(place);
    const fields = Object.fromEntries(new FormData(element));
    busy(element.querySelector('button[type="submit"]'), () =>
      action(fields, element).catch((error) => complain(error, place)),
    );
  });
}

/** Show the page anew; `text` is said on it. */
export function reload(text = "", tone = "good") {
  if (text) remember("flash", { text, tone });
  location.reload();
  return new Promise(() => {});
}

for (const button of document.querySelectorAll("[data-open]")) {
  button.addEventListener("click", () => document.getElementById(button.dataset.open).showModal());
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
const flash = recall("flash");
if (flash) {
  forget("flash");
  tell(region, flash.text, { tone: flash.tone });
}
