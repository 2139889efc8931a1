import { call, signInAgain } from "./api.js";
import { busy, config, el, leaveFor, tell } from "./ui.js";

const page = document.querySelector(".pricing");
const region = document.querySelector("[data-message]");

function choose(interval) {
  page.dataset.interval = interval;
  const radio = document.getElementById(`interval-${interval}`);
  if (radio) radio.checked = true;
}

for (const radio of document.querySelectorAll('input[name="interval"]')) {
  radio.addEventListener("change", () => choose(radio.value));
}
choose(config().interval);

async function openPortal() {
  try {
    await leaveFor((await call("POST", "/api/billing/portal", {})).url);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    complain(error);
  }
}

function complain(error, actions = []) {
  tell(region, error.message, { actions });
  region.scrollIntoView({ block: "nearest" });
}

async function checkOut(price) {
  try {
    await leaveFor((await call("POST", "/api/billing/checkout", { price })).url);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    const portal = el("button", { class: "button button--small", type: "button" }, "Change your plan");
    portal.addEventListener("click", () => busy(portal, openPortal));
    // Paid for since this page was opened, in another tab or just now.
    complain(error, error.code === "already_subscribed" ? [portal] : []);
  }
}

for (const button of document.querySelectorAll("[data-checkout]")) {
  button.addEventListener("click", () => busy(button, () => checkOut(button.dataset.checkout)));
}

for (const button of document.querySelectorAll("[data-portal]")) {
  button.addEventListener("click", () => busy(button, openPortal));
}

// Back from sign-up with a plan in mind: go on to pay for it.
const wanted = config().buy;
if (wanted) {
  const button = document.querySelector(`[data-checkout="${CSS.escape(wanted)}"]`);
  if (button) button.click();
}
