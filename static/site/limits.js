// What to say at each limit, and the way out of it. The codes are those of the API's errors.

import { el, formatCount, formatDate, formatWait, tell } from "./ui.js";

const link = (href, text) => el("a", { class: "button button--small", href }, text);

const RULES = {
  requests_per_minute: (limit) => `It allows ${formatCount(limit)} a minute.`,
  tokens_per_minute: (limit) => `It allows ${formatCount(limit)} a minute.`,
  simultaneous_requests: (limit) => `It allows ${formatCount(limit)}: wait until another answer is complete.`,
  budget_dollars: (limit, { clears_at: at }) =>
    `It includes $${Number(limit).toFixed(2)}${at ? `, and starts anew on ${formatDate(at)}` : ""}.`,
};

/**
 * Show an ApiError with its way out: wait and try again, upgrade, settle the bill.
 * `planNames` gives the names to the plans' codes; `retry` asks the same again.
 */
export function explain(region, error, { planNames, retry }) {
  const { rule, limit, upgrade_to: upgrade } = error.details;
  const text = [error.message];
  if (limit !== undefined && limit !== null && RULES[rule]) text.push(RULES[rule](limit, error.details));
  const actions = [];
  if (upgrade && planNames[upgrade]) actions.push(link(`/#${upgrade}`, `Upgrade to ${planNames[upgrade]}`));
  if (error.status === 402 || error.code === "account_suspended") actions.push(link("/account", "See your account"));
  if (isWorthRetrying(error)) actions.push(retryButton(error.retryAfter ?? 0, retry));
  tell(region, text.join(" "), { tone: error.status >= 500 || error.status === 0 ? "bad" : "warn", actions });
}

const isWorthRetrying = (error) =>
  error.retryAfter !== null || error.status === 0 || error.status === 409 || error.status >= 500;

/** Counts down the seconds that the API says to wait, then may be pressed. */
function retryButton(seconds, retry) {
  const button = el("button", { class: "button button--small", type: "button" });
  button.addEventListener("click", retry);
  let left = seconds;
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${formatWait(left)}` : "Try again";
    left -= 1;
    if (left >= 0) setTimeout(tick, 1000);
  };
  tick();
  return button;
}
