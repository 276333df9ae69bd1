const SECONDS = 10;
// Shorter than this there is no speed to speak of.
const LEAST_SECONDS = 1;

/** How fast bytes go: the mean of the last seconds. */
export class Pace {
  constructor() {
    this.marks = [];
  }

  /** Notes that so many bytes have gone in all. Fewer than before is a new beginning. */
  note(bytes, now = performance.now()) {
    if (this.marks.length && bytes < this.marks.at(-1).bytes) this.marks = [];
    this.marks.push({ bytes, now });
    while (this.marks.length > 2 && this.marks[1].now < now - SECONDS * 1000) this.marks.shift();
  }

  reset() {
    this.marks = [];
  }

  /** null while it is not known. */
  get bytesASecond() {
    if (this.marks.length < 2) return null;
    const [first, last] = [this.marks[0], this.marks.at(-1)];
    const seconds = (last.now - first.now) / 1000;
    return seconds < LEAST_SECONDS || last.bytes === first.bytes ? null : (last.bytes - first.bytes) / seconds;
  }
}
