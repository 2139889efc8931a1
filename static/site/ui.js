// The few things that every page does with the document. Text only: nothing here parses HTML.

/** Make an element: `el("p", {class: "soft"}, "text", otherElement)`. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const config = () => JSON.parse(document.getElementById("config").textContent);

/** Show one message in a region, replacing what was there. Its text is read out, its buttons are not. */
export function tell(region, text, { tone = "bad", actions = [] } = {}) {
  region.replaceChildren(
    el(
      "div",
      { class: `notice notice--${tone}` },
      el("p", { role: "alert" }, text),
      actions.length ? el("div", { class: "notice__actions" }, ...actions) : null,
    ),
  );
  region.hidden = false;
}

export function hush(region) {
  region.replaceChildren();
  region.hidden = true;
}

/** A button that copies what `text()` gives at the moment of pressing. */
export function copier(text) {
  const button = el("button", { class: "button button--quiet", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    // Where a page is not served securely, browsers have no clipboard.
    const copied = await navigator.clipboard?.writeText(text()).then(
      () => true,
      () => false,
    );
    button.textContent = copied ? "Copied" : "Select it to copy";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

/** Keep a button from being pressed twice while `work` runs. */
export async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

/** Go to another page. Settles only if the browser brings this one back, by its Back button. */
export function leaveFor(url) {
  location.assign(url);
  return new Promise((resolve) => addEventListener("pageshow", resolve, { once: true }));
}

/** Ask before a step that cannot be taken back. Resolves to true or false. */
export function confirmed(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

const longDate = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
const whole = new Intl.NumberFormat("en");

export const formatDate = (value) => longDate.format(new Date(value));
export const formatCount = (value) => whole.format(value);

/** Small amounts keep the digits that say something: $0.00042, $1.20. */
export function formatCost(dollars) {
  const value = Number(dollars);
  if (!value) return "$0";
  if (value >= 0.01) return `$${value.toFixed(2)}`;
  return `$${Number(value.toPrecision(2)).toFixed(8).replace(/0+$/, "")}`;
}

export function formatWait(seconds) {
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
