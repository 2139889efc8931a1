// Sign-in, sign-up, password reset and confirming an address: the form's data-action says which.

import { call } from "./api.js";
import { resetPassword, sendPasswordReset, signIn, signUp, SignInError, verifyEmail } from "./firebase.js";
import { busy, config, hush, leaveFor, tell } from "./ui.js";

const form = document.querySelector("form[data-action]");
const region = document.querySelector("[data-message]");

async function openSession(idToken) {
  await call("POST", "/api/auth/session", { id_token: idToken });
  // An invitation travels in the fragment, which no server sees.
  await leaveFor(config().next + location.hash);
}

const actions = {
  "sign-in": async ({ email, password }) => openSession(await signIn(email, password)),
  "sign-up": async ({ email, password }) => openSession(await signUp(email, password)),
  "reset-request": async ({ email }) => {
    try {
      await sendPasswordReset(email);
    } catch (error) {
      // Whether an address has an account is nobody else's business.
      if (!(error instanceof SignInError) || error.code !== "EMAIL_NOT_FOUND") throw error;
    }
    form.reset();
    tell(region, "If there is an account with this address, a link to choose a new password is on its way.", {
      tone: "good",
    });
  },
  "reset-confirm": async ({ password }) => {
    await resetPassword(config().oob_code, password);
    await leaveFor("/sign-in?reset=done");
  },
  // Whoever is signed in already is led on from there.
  "verify-email": async () => {
    await verifyEmail(config().oob_code);
    await leaveFor("/sign-in?verified=done");
  },
};

for (const link of document.querySelectorAll("[data-elsewhere] a")) link.hash = location.hash;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  hush(region);
  const invalid = [...form.elements].find((field) => field.willValidate && !field.checkValidity());
  for (const field of form.elements) {
    if (field.willValidate) field.setAttribute("aria-invalid", String(!field.checkValidity()));
  }
  if (invalid) {
    tell(region, invalid.dataset.problem || invalid.validationMessage);
    invalid.focus();
    return;
  }
  busy(form.querySelector('button[type="submit"]'), async () => {
    try {
      await actions[form.dataset.action](Object.fromEntries(new FormData(form)));
    } catch (error) {
      tell(region, error.message);
    }
  });
});
