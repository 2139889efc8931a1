// Back from Stripe, the browser is often ahead of Stripe's event: wait for what it will change.

import { reload } from "./actions.js";
import { call } from "./api.js";
import { el, tell } from "./ui.js";

const CHECKOUT_MS = 60_000;
const PORTAL_MS = 30_000;
const STEP_MS = 900;

const pause = () => new Promise((resolve) => setTimeout(resolve, STEP_MS));
const link = (href, text) => el("a", { class: "button button--small", href }, text);

// Where waiting ends without a new plan. The words are the API's states of a checkout.
const ENDS = {
  awaiting_payment: [
    "Your bank has not confirmed the payment yet, which may take days. Your plan begins when it does; nothing else is needed from you.",
    "warn",
  ],
  payment_failed: ["The payment did not go through, and nothing was charged.", "bad"],
  expired: ["This checkout has ended without a payment, and nothing was charged.", "warn"],
};

function waiting(region, text) {
  region.replaceChildren(
    el(
      "div",
      { class: "notice" },
      el("span", { class: "spinner", "aria-hidden": "true" }),
      el("p", { role: "status" }, text),
    ),
  );
  region.hidden = false;
}

const withoutQuery = () => history.replaceState(null, "", location.pathname);

/** Poll until the checkout's plan and its key are in force, saying so in `region`. */
export async function waitUntilActive(region, { session, organization }) {
  const query = new URLSearchParams({ session_id: session });
  if (organization) query.set("organization", organization);
  waiting(region, "Payment received. Activating your plan…");
  for (const until = Date.now() + CHECKOUT_MS; Date.now() < until; await pause()) {
    const billing = await call("GET", `/api/billing/subscription?${query}`).catch(() => undefined);
    if (!billing) continue;
    if (billing.checkout === null) {
      withoutQuery();
      region.hidden = true;
      return;
    }
    if (ENDS[billing.checkout]) {
      withoutQuery();
      const [text, tone] = ENDS[billing.checkout];
      tell(region, text, { tone, actions: tone === "bad" ? [link("/", "See plans")] : [] });
      return;
    }
    if (billing.checkout !== "completed") continue;
    const me = await call("GET", "/api/me").catch(() => null);
    if (me?.key.state === "ready" || me?.key.state === "blocked") {
      withoutQuery();
      reload(`You are on the ${me.entitlement.plan.name} plan now. Enjoy.`);
      return;
    }
    waiting(region, `You are on the ${billing.plan.name} plan. Preparing your access…`);
  }
  tell(region, "This takes longer than usual. Your payment is safe; the plan follows by itself in a few minutes.", {
    tone: "warn",
    actions: [link(location.href, "Look again")],
  });
}

/** Back from the portal: reload once what was done there has arrived. `seen` is what the page shows. */
export async function followPortal(seen, organization) {
  withoutQuery();
  const query = organization ? `?organization=${organization}` : "";
  for (const until = Date.now() + PORTAL_MS; Date.now() < until; await pause()) {
    const billing = await call("GET", `/api/billing/subscription${query}`).catch(() => null);
    if (billing && fingerprint(billing) !== seen) {
      location.reload();
      return;
    }
  }
}

/** As tesslate/site/billing.py puts it. */
function fingerprint({ plan, subscription }) {
  return [
    plan.code,
    subscription?.status ?? "",
    subscription?.price?.id ?? "",
    subscription?.ends_at ? "ends" : "",
    subscription?.quantity ?? "",
  ].join(" ");
}
