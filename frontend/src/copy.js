import { announce, readyToAnnounce } from "./announce.js";

const SHOWN_SECONDS = 3;

/** Shows each button with `data-copy="#id"`, which copies the text of that element and then shows its `data-copied`. */
export function offerCopying() {
  for (const button of document.querySelectorAll("button[data-copy][hidden]")) {
    readyToAnnounce();
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

async function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  if (!(await copied(source))) return;
  const words = button.dataset.copied;
  if (!words || button.textContent === words) return;
  const before = button.textContent;
  button.textContent = words;
  announce(words);
  setTimeout(() => (button.textContent = before), SHOWN_SECONDS * 1000);
}

async function copied(source) {
  const text = "value" in source ? source.value : source.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Refused, or missing on a plain http address: select the text for the keyboard.
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
