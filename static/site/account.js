import { call, signInAgain } from "./api.js";
import { waitUntilActive } from "./activation.js";
import { busy, config, tell } from "./ui.js";

const region = document.querySelector("[data-message]");

/** Run an action of a button; say what went wrong. */
function on(selector, action) {
  for (const button of document.querySelectorAll(selector)) {
    button.addEventListener("click", () =>
      busy(button, async () => {
        try {
          await action(button);
        } catch (error) {
          if (error.status === 401) signInAgain();
          else {
            tell(region, error.message);
            region.scrollIntoView({ block: "nearest" });
          }
        }
      }),
    );
  }
}

on("[data-portal]", async () => location.assign((await call("POST", "/api/billing/portal", {})).url));
on("[data-rotate]", async (button) => {
  await call("POST", "/api/keys/rotate", { key: Number(button.dataset.rotate) });
  location.reload();
});

if (config().activating) waitUntilActive(region, { reload: true });
