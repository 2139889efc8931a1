import { call, signInAgain } from "./api.js";
import { waitUntilActive } from "./activation.js";
import { busy, config, confirmed, hush, tell } from "./ui.js";

const region = document.querySelector("[data-message]");
const find = (selector) => document.querySelector(selector);

function complain(error, place = region) {
  if (error.status === 401) return signInAgain();
  tell(place, error.message);
  place.scrollIntoView({ block: "nearest" });
  return undefined;
}

/** Run an action of a button; say what went wrong. */
function on(selector, action) {
  for (const button of document.querySelectorAll(selector)) {
    button.addEventListener("click", () => busy(button, () => action(button).catch((error) => complain(error))));
  }
}

on("[data-portal]", async () => location.assign((await call("POST", "/api/billing/portal", {})).url));
on("[data-rotate]", async (button) => {
  if (!(await confirmed(find("#rotate-key")))) return;
  await call("POST", "/api/keys/rotate", { key: Number(button.dataset.rotate) });
  location.reload();
});
on("[data-revoke]", async (button) => {
  find("[data-token-name]").textContent = button.dataset.name;
  if (!(await confirmed(find("#revoke-token")))) return;
  await call("DELETE", `/api/tokens/${button.dataset.revoke}`);
  location.reload();
});
on("[data-end]", async (button) => {
  await call("DELETE", `/api/sessions/${button.dataset.end}`);
  location.reload();
});
on("[data-end-others]", async () => {
  await call("DELETE", "/api/sessions");
  location.reload();
});

// --- Dialogs ---------------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-open]")) {
  button.addEventListener("click", () => document.getElementById(button.dataset.open).showModal());
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

/** Send a dialog's form; problems are told inside the dialog. */
function form(selector, action) {
  const element = find(selector);
  const place = element.querySelector("[data-dialog-message]");
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    hush(place);
    const button = element.querySelector('button[type="submit"]');
    const fields = Object.fromEntries(new FormData(element));
    busy(button, () => action(fields, element).catch((error) => complain(error, place)));
  });
}

form("[data-new-token]", async ({ name, days }, element) => {
  const made = await call("POST", "/api/tokens", {
    name,
    scopes: ["chat", "usage:read"],
    expires_in_days: days ? Number(days) : null,
  });
  element.querySelector("[data-token]").textContent = made.token;
  element.querySelector("[data-ask]").hidden = true;
  element.querySelector("[data-show]").hidden = false;
  element.querySelector("[data-done]").focus();
});
find("[data-copy]").addEventListener("click", async (event) => {
  await navigator.clipboard.writeText(find("[data-token]").textContent);
  event.target.textContent = "Copied";
});
find("[data-done]").addEventListener("click", () => location.reload());
find("#new-token").addEventListener("close", () => {
  if (!find("[data-show]").hidden) location.reload();
});

form("[data-delete]", async ({ confirm }) => {
  await call("DELETE", "/api/me", { confirm });
  location.assign("/");
});

// --- Arriving from elsewhere -----------------------------------------------------------------

async function acceptInvitation(token) {
  // Out of the address bar before anything else: it works once.
  history.replaceState(null, "", location.pathname);
  await call("POST", "/api/invitations/accept", { token });
  location.reload();
}

const invitation = new URLSearchParams(location.hash.slice(1)).get("invitation");
if (invitation) acceptInvitation(invitation).catch((error) => complain(error));
if (config().activating) waitUntilActive(region, { reload: true });
