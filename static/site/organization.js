import { find, form, on, reload } from "./actions.js";
import { followPortal, waitUntilActive } from "./activation.js";
import { call } from "./api.js";
import { config, confirmed, leaveFor } from "./ui.js";

const { organization, me, checkout_session: session, is_back_from_portal: isBack, seen } = config();
const base = `/api/organizations/${organization}`;

form("[data-buy]", async ({ price, quantity }) => {
  const order = { price, organization, quantity: Number(quantity) };
  await leaveFor((await call("POST", "/api/billing/checkout", order)).url);
});
on("[data-portal]", async () => leaveFor((await call("POST", "/api/billing/portal", { organization })).url));

form("[data-overage]", async ({ dollars }) => {
  await call("PUT", "/api/billing/overage", { organization, cap_cents: Math.round(100 * Number(dollars)) });
  await reload(Number(dollars) ? `Up to $${dollars} a period may go beyond the plan.` : "Nothing goes beyond the plan.");
});

form("[data-rename]", async ({ name }) => {
  await call("PATCH", base, { name });
  await reload("Renamed.");
});

const invite = (email, role) => call("POST", `${base}/invitations`, { email, role });

function tellOfInvitation({ email, is_sent: isSent }) {
  if (isSent) return reload(`The invitation to ${email} is on its way.`);
  return reload(`The invitation to ${email} could not be sent. Try it again in a while.`, "warn");
}

form("[data-invite]", async ({ email, role }) => tellOfInvitation(await invite(email, role)));
on("[data-again]", async (button) => tellOfInvitation(await invite(button.dataset.again, button.dataset.as)));
on("[data-withdraw]", async (button) => {
  await call("DELETE", `${base}/invitations/${button.dataset.withdraw}`);
  await reload("The invitation is withdrawn; its link does nothing any more.");
});

on("[data-role]", async (button) => {
  await call("PATCH", `${base}/members/${button.dataset.role}`, { role: button.dataset.to });
  await reload("The role is changed.");
});
on("[data-remove]", async (button) => {
  find("[data-member-name]").textContent = button.dataset.name;
  if (!(await confirmed(find("#remove")))) return;
  await call("DELETE", `${base}/members/${button.dataset.remove}`);
  await reload(`${button.dataset.name} is removed.`);
});
on("[data-leave]", async () => {
  if (!(await confirmed(find("#leave")))) return;
  await call("DELETE", `${base}/members/${me}`);
  await leaveFor("/account");
});

if (session) waitUntilActive(find("[data-message]"), { session, organization });
else if (isBack) followPortal(seen, organization);
