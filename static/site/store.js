// What this tab remembers between pages. A browser may refuse storage: then nothing is remembered.

export function recall(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    forget(name);
  }
}

export function forget(name) {
  try {
    sessionStorage.removeItem(name);
  } catch {
    // Nothing was kept in the first place.
  }
}
