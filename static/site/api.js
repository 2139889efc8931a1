// Calls to our own API: same origin, session cookie, CSRF header, the one error shape.

export class ApiError extends Error {
  /** @param {number} status @param {object} error the body's `error` member @param {number|null} retryAfter seconds */
  constructor(status, error, retryAfter) {
    super(error.message || "Something went wrong.");
    this.status = status;
    this.code = error.code || "internal_error";
    this.details = error;
    this.retryAfter = retryAfter;
  }
}

const csrfToken = () => document.querySelector('meta[name="csrf-token"]').content;

/**
 * Send a request and give back the raw response, or throw an ApiError.
 * Signing in elsewhere makes this page's CSRF token stale: then it is fetched anew, once.
 */
export async function send(method, path, body, options = {}) {
  try {
    return await attempt(method, path, body, options);
  } catch (error) {
    if (error.code !== "csrf_failed") throw error;
    await renewCsrfToken();
    return attempt(method, path, body, options);
  }
}

async function renewCsrfToken() {
  const session = await (await attempt("GET", "/api/auth/session", undefined, {})).json();
  const signedInAs = document.querySelector('meta[name="user"]').content;
  if (String(session.user.id) !== signedInAs) {
    // This page shows what belongs to one user, and the browser is signed in as another by now.
    location.reload();
    throw new ApiError(409, { message: "You are signed in as somebody else by now." }, null);
  }
  document.querySelector('meta[name="csrf-token"]').content = session.csrf_token;
}

async function attempt(method, path, body, options) {
  const headers = { Accept: options.accept || "application/json", ...options.headers };
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: options.signal,
    });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new ApiError(0, { code: "offline", message: "We cannot be reached. Check your connection and try again." }, null);
  }
  if (response.ok) return response;
  throw await asError(response);
}

/** The same, with a JSON answer (null for an empty one). */
export async function call(method, path, body, options) {
  const response = await send(method, path, body, options);
  return response.status === 204 ? null : response.json();
}

async function asError(response) {
  let error = {};
  try {
    error = (await response.json()).error || {};
  } catch {
    error = { message: `The server answered ${response.status}. Please try again.` };
  }
  const retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10);
  return new ApiError(response.status, error, Number.isNaN(retryAfter) ? null : retryAfter);
}

/** An expired session: sign in and come back to this page. */
export function signInAgain() {
  const next = location.pathname + location.search;
  location.assign(`/sign-in?expired=1&next=${encodeURIComponent(next)}`);
}
