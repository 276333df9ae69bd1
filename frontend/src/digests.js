/** Computes SHA-256 digests of files in a worker, whose script is at the given address. */
export class Digests {
  constructor(address) {
    this.address = address;
    this.waiting = new Map();
    this.count = 0;
  }

  /** The digest as 32 bytes, or null if it cannot be computed. `signal` cancels the work. */
  of(file, signal) {
    return new Promise((resolve) => {
      const id = ++this.count;
      this.waiting.set(id, resolve);
      this.worker ??= this.start();
      this.worker.postMessage({ id, file });
      signal.addEventListener("abort", () => {
        if (this.waiting.delete(id)) this.worker.postMessage({ id });
        resolve(null);
      });
    });
  }

  start() {
    const worker = new Worker(this.address);
    worker.addEventListener("message", ({ data: { id, digest } }) => {
      this.waiting.get(id)?.(digest);
      this.waiting.delete(id);
    });
    worker.addEventListener("error", () => {
      for (const resolve of this.waiting.values()) resolve(null);
      this.waiting.clear();
    });
    return worker;
  }
}
