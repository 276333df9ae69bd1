import { Pace } from "./pace.js";
import { duration, fill, percent, say, size } from "./words.js";

const UNDER_WAY = ["asking", "waiting", "sending"];
const STORED = ["checking", "completed", "failed"];
const WITH_PROGRESS = ["waiting", "sending", "paused", "checking", "unfinished", "missing"];
let count = 0;

/**
 * A file in the list: name, progress, message and actions.
 *
 * `state` is asking, held (already stored: ask first), waiting, sending, paused, checking (stored, a worker has it),
 * completed, failed (stored, but faulty), refused (not stored), unfinished (begun on an earlier visit; the browser has a
 * handle of the file), or missing (the same, but the file must be chosen again).
 */
export class Row {
  constructor({ name, size, path = "", file = null, handle = null, workspace, url = "" }) {
    Object.assign(this, { name, size, path, file, handle, workspace, url });
    this.sent = 0;
    this.pace = new Pace();
    this.isInTrouble = false;
    this.element = document.getElementById("sending-row").content.firstElementChild.cloneNode(true);
    const label = this.element.querySelector(".name");
    label.querySelector(".path").textContent = path;
    label.append(name);
    label.id = `sending-${++count}`;
    this.progress = this.element.querySelector("progress");
    this.progress.setAttribute("aria-labelledby", label.id);
    this.words = this.element.querySelector(".words");
    this.controls = [...this.element.querySelectorAll("[data-for]")];
    for (const control of this.controls) {
      control.setAttribute("aria-label", fill(control.dataset.label, { name: path + name }));
    }
  }

  get isUnderWay() {
    return UNDER_WAY.includes(this.state);
  }

  get isStored() {
    return STORED.includes(this.state);
  }

  get isAllSent() {
    return this.sent === this.size;
  }

  /** Whether its bytes count in the total. */
  get isGoing() {
    return this.isUnderWay || this.isStored || this.state === "paused";
  }

  /** `address` is that of the page to open, if there is one. */
  show(state, words, { address } = {}) {
    const had = this.element.contains(document.activeElement) ? document.activeElement : null;
    this.state = state;
    this.words.textContent = words;
    this.element.dataset.state = state;
    this.progress.hidden = !WITH_PROGRESS.includes(state);
    for (const control of this.controls) control.hidden = !control.dataset.for.split(" ").includes(state);
    const link = this.element.querySelector("a");
    if (address) link.href = address;
    if (!link.hasAttribute("href")) link.hidden = true;
    // Keeps the focus at the file when the focused element goes.
    if (had?.hidden) this.focus();
  }

  showProgress(bytes) {
    this.isInTrouble = false;
    this.sent = bytes;
    this.pace.note(bytes);
    this.progress.value = this.fraction;
    this.show("sending", this.isAllSent ? say("finishing") : this.describe("sending") + paceOf(this.pace, this.size - bytes));
  }

  /** The message with its share, sent bytes and size filled in. */
  describe(word, values = {}) {
    return say(word, { percent: percent(this.fraction), sent: size(this.sent), size: size(this.size), ...values });
  }

  get fraction() {
    return this.size ? this.sent / this.size : 0;
  }

  focus() {
    this.controls.find((control) => !control.hidden)?.focus();
  }
}

/** " · 1.2 MB a second · 3 minutes left", or "" while that is unknown. */
export function paceOf(pace, bytesLeft) {
  const speed = pace.bytesASecond;
  if (!speed || !bytesLeft) return "";
  return ` · ${say("pace", { speed: size(speed), left: duration(bytesLeft / speed) })}`;
}
