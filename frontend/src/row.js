import { fill, percent, say, size } from "./words.js";

const FINAL = ["completed", "failed"];
let count = 0;

/**
 * A file in the list: name, progress, message and actions.
 *
 * `state` is asking, held (already stored: ask first), waiting, sending, checking (stored, a worker has it), completed,
 * failed (stored, but faulty), or refused (not stored).
 */
export class Row {
  constructor(file, workspace, url) {
    this.file = file;
    this.workspace = workspace;
    this.url = url;
    this.digest = null;
    this.sent = 0;
    this.state = "asking";
    this.element = document.getElementById("sending-row").content.firstElementChild.cloneNode(true);
    this.name = this.element.querySelector(".name");
    this.name.textContent = file.name;
    this.name.id = `sending-${++count}`;
    this.progress = this.element.querySelector("progress");
    this.progress.setAttribute("aria-labelledby", this.name.id);
    this.words = this.element.querySelector(".words");
    this.controls = [...this.element.querySelectorAll("[data-for]")];
    for (const control of this.controls) {
      control.setAttribute("aria-label", fill(control.dataset.label, { name: file.name }));
    }
    this.show("asking", say("asking"));
  }

  get isUnderWay() {
    return ["asking", "waiting", "sending"].includes(this.state);
  }

  get isStored() {
    return ["checking", ...FINAL].includes(this.state);
  }

  /** `address` is that of the page to open, if there is one. */
  show(state, words, { address } = {}) {
    const had = this.element.contains(document.activeElement) ? document.activeElement : null;
    this.state = state;
    this.words.textContent = words;
    this.element.dataset.state = state;
    this.progress.hidden = !["waiting", "sending", "checking"].includes(state);
    for (const control of this.controls) control.hidden = !control.dataset.for.split(" ").includes(state);
    const link = this.element.querySelector("a");
    if (address) link.href = address;
    if (!link.hasAttribute("href")) link.hidden = true;
    // Keeps the focus at the file when the focused element goes.
    if (had?.hidden) this.focus();
  }

  showProgress(bytes) {
    this.sent = bytes;
    const fraction = this.file.size ? bytes / this.file.size : 0;
    this.progress.value = fraction;
    this.show(
      "sending",
      say("sending", { percent: percent(fraction), sent: size(bytes), size: size(this.file.size) }),
    );
  }

  focus() {
    this.controls.find((control) => !control.hidden)?.focus();
  }
}
