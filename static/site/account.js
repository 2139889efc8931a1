import { complain, find, form, on, reload } from "./actions.js";
import { followPortal, waitUntilActive } from "./activation.js";
import { call } from "./api.js";
import { config, confirmed, copier, leaveFor } from "./ui.js";

const region = find("[data-message]");

on("[data-portal]", async () => leaveFor((await call("POST", "/api/billing/portal", {})).url));
on("[data-rotate]", async (button) => {
  if (!(await confirmed(find("#rotate-key")))) return;
  await call("POST", "/api/keys/rotate", { key: Number(button.dataset.rotate) });
  await reload("A new key has taken the old one's place.");
});
on("[data-revoke]", async (button) => {
  find("[data-token-name]").textContent = button.dataset.name;
  if (!(await confirmed(find("#revoke-token")))) return;
  await call("DELETE", `/api/tokens/${button.dataset.revoke}`);
  await reload(`The token ${button.dataset.name} is revoked.`);
});
on("[data-end]", async (button) => {
  await call("DELETE", `/api/sessions/${button.dataset.end}`);
  await reload("That browser is signed out.");
});
on("[data-end-others]", async () => {
  await call("DELETE", "/api/sessions");
  await reload("Every other browser is signed out.");
});

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
find("[data-copy]").replaceWith(copier(() => find("[data-token]").textContent));
find("[data-done]").addEventListener("click", () => reload());
find("#new-token").addEventListener("close", () => {
  if (!find("[data-show]").hidden) reload();
});

form("[data-overage]", async ({ dollars }) => {
  await call("PUT", "/api/billing/overage", { cap_cents: Math.round(100 * Number(dollars)) });
  await reload(Number(dollars) ? `Up to $${dollars} a period may go beyond the plan.` : "Nothing goes beyond the plan.");
});

form("[data-new-organization]", async ({ name }) => {
  const { id } = await call("POST", "/api/organizations", { name });
  await leaveFor(`/organizations/${id}`);
});

form("[data-delete]", async ({ confirm }) => {
  await call("DELETE", "/api/me", { confirm });
  sessionStorage.clear();
  await leaveFor("/");
});
find("[data-sign-out]").addEventListener("submit", () => sessionStorage.clear());

// --- Arriving from elsewhere -----------------------------------------------------------------

async function acceptInvitation(token) {
  // Out of the address bar before anything else: it works once.
  history.replaceState(null, "", location.pathname);
  const { name } = await call("POST", "/api/invitations/accept", { token });
  await reload(`You are a member of ${name} now.`);
}

const invitation = new URLSearchParams(location.hash.slice(1)).get("invitation");
const { checkout_session: session, is_back_from_portal: isBack, seen } = config();
if (invitation) acceptInvitation(invitation).catch((error) => complain(error));
else if (session) waitUntilActive(region, { session });
else if (isBack) followPortal(seen);
