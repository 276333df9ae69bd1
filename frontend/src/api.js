// The REST API, with the session of the page.

/** An error response. `message` is its own text, if it had one. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "");
    this.status = status;
    this.code = problem?.code;
  }
}

export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]").value;
}

/** Puts a fresh CSRF token into the forms of this page: a new sign-in in another tab invalidates the old one. */
export async function renewToken() {
  const answer = await fetch(location.pathname, { cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const token = page.querySelector("input[name=csrfmiddlewaretoken]")?.value;
  if (answer.redirected || !token) return;
  for (const field of document.querySelectorAll("input[name=csrfmiddlewaretoken]")) field.value = token;
}

/** Posts, and returns the JSON response. Throws Refused, or a TypeError without a response. */
export function postJson(url, body) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": csrfToken() };
  return answered(url, { method: "POST", headers, body: JSON.stringify(body) });
}

export function getJson(url) {
  return answered(url, { cache: "no-store" });
}

async function answered(url, request) {
  const answer = await fetch(url, request);
  const text = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, problemIn(text));
  return JSON.parse(text);
}

/** RFC 9457; null for a response from something else, such as a proxy. */
export function problemIn(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
