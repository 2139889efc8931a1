// Firebase Authentication over its REST interface: no SDK, no third-party script.
// https://cloud.google.com/identity-platform/docs/use-rest-api

import { config } from "./ui.js";

const MESSAGES = {
  EMAIL_EXISTS: "There is an account with this e-mail address already. Sign in instead.",
  INVALID_EMAIL: "This does not look like an e-mail address.",
  MISSING_EMAIL: "Enter your e-mail address.",
  MISSING_PASSWORD: "Enter your password.",
  WEAK_PASSWORD: "Choose a longer password: six characters at the least.",
  EMAIL_NOT_FOUND: "E-mail address and password do not match.",
  INVALID_PASSWORD: "E-mail address and password do not match.",
  INVALID_LOGIN_CREDENTIALS: "E-mail address and password do not match.",
  USER_DISABLED: "This account is disabled. Write to support.",
  TOO_MANY_ATTEMPTS_TRY_LATER: "Too many attempts. Wait a few minutes, then try again.",
  OPERATION_NOT_ALLOWED: "Sign-in with a password is switched off.",
  EXPIRED_OOB_CODE: "This link has expired. Ask for a new one.",
  INVALID_OOB_CODE: "This link was used already or is not valid. Ask for a new one.",
};

export class SignInError extends Error {
  constructor(code) {
    super(MESSAGES[code] || "Signing in did not work. Please try again.");
    this.code = code;
  }
}

async function accounts(action, body) {
  const { firebase_url: base, firebase_api_key: key } = config();
  let response;
  try {
    response = await fetch(`${base}/v1/accounts:${action}?key=${encodeURIComponent(key)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      referrerPolicy: "no-referrer",
    });
  } catch {
    const error = new SignInError("UNREACHABLE");
    error.message = "The sign-in service cannot be reached. Check your connection and try again.";
    throw error;
  }
  const answer = await response.json().catch(() => ({}));
  // "WEAK_PASSWORD : Password should be at least 6 characters": the word is stable, the rest is not.
  if (!response.ok) throw new SignInError((answer.error?.message || "").split(/[\s:]/)[0]);
  return answer;
}

/** Each resolves to an ID token. */
export const signIn = async (email, password) =>
  (await accounts("signInWithPassword", { email, password, returnSecureToken: true })).idToken;
export const signUp = async (email, password) =>
  (await accounts("signUp", { email, password, returnSecureToken: true })).idToken;

export const sendPasswordReset = (email) => accounts("sendOobCode", { requestType: "PASSWORD_RESET", email });
export const verifyEmail = (oobCode) => accounts("update", { oobCode });
export const resetPassword = (oobCode, newPassword) => accounts("resetPassword", { oobCode, newPassword });
