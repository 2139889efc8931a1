import { call, signInAgain } from "./api.js";
import { busy, config, el, tell } from "./ui.js";

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
  location.assign((await call("POST", "/api/billing/portal", {})).url);
}

async function checkOut(price) {
  try {
    location.assign((await call("POST", "/api/billing/checkout", { price })).url);
  } catch (error) {
    if (error.status === 401) return signInAgain();
    const portal = el("button", { class: "button button--small", type: "button" }, "Change your plan");
    portal.addEventListener("click", () => busy(portal, openPortal).catch((fault) => tell(region, fault.message)));
    // Someone who pays already changes the plan in the portal; a second subscription helps nobody.
    tell(region, error.message, { actions: error.code === "already_subscribed" ? [portal] : [] });
    region.scrollIntoView({ block: "nearest" });
  }
}

for (const button of document.querySelectorAll("[data-checkout]")) {
  button.addEventListener("click", () => busy(button, () => checkOut(button.dataset.checkout)));
}

// Back from sign-up with a plan in mind: go on to pay for it.
const wanted = config().buy;
if (wanted) {
  const button = document.querySelector(`[data-checkout="${CSS.escape(wanted)}"]`);
  if (button) button.click();
}
