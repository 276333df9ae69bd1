import { announce, readyToAnnounce } from "./announce.js";

const FIRST_SECONDS = 2;
const LAST_SECONDS = 10;
const GROWTH = 1.3;
const PATIENCE = 20;
const TOKEN = /(name="csrfmiddlewaretoken" value=")[^"]*/g;

/**
 * While the page has an element with `data-busy`, fetches it again and replaces each element with `data-live` and an id
 * that has changed. One with the focus, or with audio that was begun, waits until it is left. A screen reader says a
 * new `data-announce` in it.
 */
export function keepLive({ onReplaced }) {
  if (!document.querySelector("[data-busy]")) return;
  readyToAnnounce();
  // As the server wrote them, so that changes by the reader do not count.
  const written = new WeakMap(liveElements().map((element) => [element, markup(element)]));
  let seconds = FIRST_SECONDS;
  let failures = 0;

  async function look() {
    if (document.hidden) {
      document.addEventListener("visibilitychange", look, { once: true });
      return;
    }
    let waiting = false;
    try {
      const page = await fetchPage();
      // Signed out, or the page is gone: the next visit shows why.
      if (!page) return;
      const { replaced, postponed } = replaceChanged(page, written);
      failures = 0;
      waiting = postponed;
      seconds = replaced ? FIRST_SECONDS : Math.min(seconds * GROWTH, LAST_SECONDS);
      if (replaced) onReplaced();
    } catch {
      seconds = LAST_SECONDS;
      failures += 1;
    }
    const busy = document.querySelector("[data-busy]");
    if ((busy || waiting) && failures < PATIENCE) setTimeout(look, seconds * 1000);
  }

  setTimeout(look, seconds * 1000);
}

/** The current page; null if it is another one. Throws without a good response. */
async function fetchPage() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (answer.redirected || (answer.status >= 400 && answer.status < 500 && answer.status !== 429)) return null;
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function liveElements() {
  return [...document.querySelectorAll("[data-live][id]")];
}

function replaceChanged(page, written) {
  let replaced = false;
  let postponed = false;
  for (const old of liveElements()) {
    const fresh = page.getElementById(old.id);
    // Gone, inside an element that was just replaced, or unchanged.
    if (!fresh || !old.isConnected || markup(fresh) === written.get(old)) continue;
    if (isInUse(old)) {
      postponed = true;
      continue;
    }
    const before = announcements(old);
    const node = document.importNode(fresh, true);
    old.replaceWith(node);
    for (const element of [node, ...node.querySelectorAll("[data-live][id]")]) written.set(element, markup(element));
    keepState(old, node);
    announcements(node).filter((words) => !before.includes(words)).forEach(announce);
    replaced = true;
  }
  return { replaced, postponed };
}

/** Its appearance, without the token of a form, which always differs. */
function markup(element) {
  return element.outerHTML.replace(TOKEN, "$1");
}

function isInUse(element) {
  const begun = [...element.querySelectorAll("audio")].some((audio) => !audio.paused || audio.currentTime > 0);
  return begun || element.contains(document.activeElement);
}

function announcements(element) {
  return [element, ...element.querySelectorAll("[data-announce]")].map((each) => each.dataset.announce).filter(Boolean);
}

/** Keeps what the reader has ticked and unfolded. */
function keepState(old, fresh) {
  const boxes = [...fresh.querySelectorAll("input[type=checkbox]")];
  for (const { name, value } of old.querySelectorAll("input[type=checkbox]:checked")) {
    const box = boxes.find((each) => each.name === name && each.value === value);
    if (box) box.checked = true;
  }
  for (const details of old.querySelectorAll("details[id]")) {
    fresh.querySelector(`#${CSS.escape(details.id)}`)?.toggleAttribute("open", details.open);
  }
}
