// Usage against limits as bars, out of GET /api/me.

import { el, formatCount, formatDate } from "./ui.js";

/** One labelled bar: `used` of `limit`, both already in words for people. */
export function meter(label, used, limit, words) {
  const share = limit > 0 ? used / limit : 0;
  const tone = share >= 1 ? " meter--bad" : share >= 0.8 ? " meter--warn" : "";
  return el(
    "div",
    { class: `meter${tone}` },
    el(
      "div",
      { class: "meter__head small" },
      el("span", {}, label),
      el("span", { class: "soft numeric" }, words),
    ),
    el("progress", { max: "100", value: String(Math.min(100, share * 100)), "aria-label": `${label}: ${words}` }),
  );
}

/** The period's usage. `budget` is in US dollars. */
export function showUsage(region, me, budget) {
  const usage = me.usage;
  if (!usage) return;
  const cost = Number(usage.cost ?? 0);
  region.replaceChildren(
    el("h2", { class: "small soft" }, "This period"),
    meter("Model usage", cost, budget, `$${cost.toFixed(2)} of $${budget.toFixed(2)}`),
    el(
      "p",
      { class: "small soft numeric" },
      `${formatCount(usage.requests)} ${usage.requests === 1 ? "request" : "requests"} · ${formatCount(usage.total_tokens)} tokens · until ${formatDate(me.entitlement.period_end)}`,
    ),
  );
}
