// What to say at each limit, and the way out of it. The codes are those of the API's errors.

import { el, formatWait, tell } from "./ui.js";

const link = (href, text) => el("a", { class: "button button--small", href }, text);

/** Show an ApiError with its way out: wait and retry, upgrade, settle the bill. */
export function explain(region, error, { retry } = {}) {
  const actions = [];
  const upgrade = error.details?.upgrade_to;
  const upgradeName = typeof upgrade === "string" ? upgrade : upgrade?.name;
  if (upgrade) actions.push(link("/", `Upgrade to ${titled(upgradeName)}`));
  else if (error.status === 402) actions.push(link("/account", "See your account"));
  if (retry && isWorthRetrying(error)) actions.push(retryButton(region, error, retry));
  tell(region, error.message, { tone: error.status >= 500 || error.status === 0 ? "bad" : "warn", actions });
}

const titled = (name) => (name ? name[0].toUpperCase() + name.slice(1) : "a larger plan");

const isWorthRetrying = (error) =>
  error.retryAfter !== null || error.status === 0 || error.status === 409 || error.status >= 500;

/** Counts down where the API says how long to wait, then may be pressed. */
function retryButton(region, error, retry) {
  const button = el("button", { class: "button button--small", type: "button" }, "Try again");
  button.addEventListener("click", retry);
  let left = error.retryAfter ?? 0;
  const tick = () => {
    if (!button.isConnected && left < (error.retryAfter ?? 0)) return;
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${formatWait(left)}` : "Try again";
    if (left > 0) setTimeout(tick, 1000);
    left -= 1;
  };
  tick();
  return button;
}
