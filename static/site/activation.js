// After checkout the browser is back before Stripe's event is: wait for the plan, then for the key.

import { call } from "./api.js";
import { el, tell } from "./ui.js";

const PATIENCE_MS = 60_000;
const STEP_MS = 700;

/** Poll /api/me until the paid plan and its key are in force, saying so in `region`. */
export async function waitUntilActive(region, { reload = false } = {}) {
  const until = Date.now() + PATIENCE_MS;
  const text = el("p", {}, "Payment received. Activating your plan…");
  region.replaceChildren(
    el("div", { class: "notice" }, el("span", { class: "spinner", "aria-hidden": "true" }), text),
  );
  region.hidden = false;
  while (Date.now() < until) {
    const me = await call("GET", "/api/me").catch(() => null);
    if (me && me.entitlement.source !== "default") {
      const name = me.entitlement.plan.name;
      if (me.key?.state === "ready") {
        history.replaceState(null, "", location.pathname);
        if (reload) location.reload();
        else tell(region, `You are on the ${name} plan. Enjoy.`, { tone: "good" });
        return;
      }
      text.textContent = `You are on the ${name} plan. Preparing your key…`;
    }
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
  tell(region, "This takes longer than usual. Your payment is safe; the plan follows by itself in a few minutes.", {
    tone: "warn",
    actions: [el("a", { class: "button button--small", href: location.pathname }, "Look again")],
  });
}
