const SECONDS = 10;
// A shorter time tells no speed.
const LEAST_SECONDS = 1;

/** The speed of a transfer: the mean of the last seconds. */
export class Pace {
  constructor() {
    this.marks = [];
  }

  /** Notes the number of bytes sent so far. A lower number than before starts the measurement again. */
  note(bytes, now = performance.now()) {
    if (this.marks.length && bytes < this.marks.at(-1).bytes) this.marks = [];
    this.marks.push({ bytes, now });
    while (this.marks.length > 2 && this.marks[1].now < now - SECONDS * 1000) this.marks.shift();
  }

  reset() {
    this.marks = [];
  }

  /** null while it is unknown. */
  get bytesASecond() {
    if (this.marks.length < 2) return null;
    const [first, last] = [this.marks[0], this.marks.at(-1)];
    const seconds = (last.now - first.now) / 1000;
    return seconds < LEAST_SECONDS || last.bytes === first.bytes ? null : (last.bytes - first.bytes) / seconds;
  }
}
