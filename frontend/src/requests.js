// The requests of tus-js-client, in the way that its option httpStack describes.
import { csrfToken } from "./api.js";

// Without a byte of progress for so long, the line is taken for dead.
const SILENT_SECONDS = 30;
// After its last byte the server may have to put the file together, and read it once more.
const COMPLETING_SECONDS = 60;
const COMPLETED_BYTES_A_SECOND = 20_000_000;
const LOCKED = 423;
const LOCKED_FOR_CLIENT = [408, 425];

/**
 * Makes the requests of one sending. Before the last bytes go, `beforeEnd()` is awaited: it resolves to the file's
 * SHA-256, or null; the digest goes along, so that the server compares it with what it stored. `onSession()` is called
 * when `sending.url` has become the address of the session.
 */
export class Requests {
  constructor(sending, { beforeEnd, onSession }) {
    Object.assign(this, { sending, beforeEnd, onSession });
  }

  createRequest(method, url) {
    const kind = { POST: Creation, DELETE: Termination }[method] ?? Request;
    return new kind(method, url, this);
  }

  getName() {
    return "Requests";
  }
}

class Request {
  constructor(method, url, requests) {
    Object.assign(this, { method, url, requests, headers: {}, isAborted: false, onProgress() {} });
    this.xhr = new XMLHttpRequest();
    this.xhr.open(method, url);
  }

  getMethod() {
    return this.method;
  }

  getURL() {
    return this.url;
  }

  setHeader(name, value) {
    this.headers[name] = value;
    this.xhr.setRequestHeader(name, value);
  }

  getHeader(name) {
    return this.headers[name];
  }

  setProgressHandler(handler) {
    this.onProgress = handler;
  }

  getUnderlyingObject() {
    return this.xhr;
  }

  async abort() {
    this.isAborted = true;
    this.xhr.abort();
  }

  async send(body = null) {
    const digest = this.carriesTheEnd(body) ? await this.requests.beforeEnd() : null;
    // It was paused or removed while it waited. The client has forgotten it, so that it has no one to answer.
    if (this.isAborted) return new Promise(() => {});
    if (digest) this.setHeader("Repr-Digest", `sha-256=:${btoa(String.fromCharCode(...digest))}:`);
    return this.answer(body);
  }

  carriesTheEnd(body) {
    const end = Number(this.headers["Upload-Offset"]) + (body?.size ?? 0);
    return this.method === "PATCH" && end === this.requests.sending.file.size;
  }

  answer(body) {
    const { xhr } = this;
    const { file, isAllSent } = this.requests.sending;
    const afterEnd = COMPLETING_SECONDS + file.size / COMPLETED_BYTES_A_SECOND;
    this.setHeader("X-CSRFToken", csrfToken());
    return new Promise((resolve, reject) => {
      let timer;
      const expectWithin = (seconds) => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          xhr.abort();
          reject(new Error("no answer"));
        }, seconds * 1000);
      };
      xhr.upload.addEventListener("progress", ({ loaded }) => {
        expectWithin(SILENT_SECONDS);
        if (!this.isAborted) this.onProgress(loaded);
      });
      xhr.upload.addEventListener("load", () => expectWithin(this.carriesTheEnd(body) ? afterEnd : SILENT_SECONDS * 2));
      xhr.addEventListener("load", () => resolve(new Answer(this.method, xhr)));
      xhr.addEventListener("error", () => reject(new Error("no connection")));
      xhr.addEventListener("loadend", () => clearTimeout(timer));
      expectWithin(this.method === "HEAD" && isAllSent ? afterEnd : SILENT_SECONDS);
      xhr.send(body);
    });
  }
}

/**
 * Begins a session. It is never broken off, since its answer holds the address of the session; who begins again
 * meanwhile gets the same answer.
 */
class Creation extends Request {
  async abort() {}

  send() {
    const { sending } = this.requests;
    sending.creation ??= this.begin(sending).finally(() => {
      sending.creation = null;
    });
    return sending.creation;
  }

  async begin(sending) {
    const answer = await this.answer(null);
    const address = answer.getHeader("Location");
    if (answer.getStatus() === 201 && address) {
      sending.url = new URL(address, this.xhr.responseURL).href;
      this.requests.onSession();
    }
    return answer;
  }
}

/** Not sent at all: Uppy looks neither at its answer nor at its failure. The transport ends sessions itself. */
class Termination extends Request {
  async send() {
    return { getStatus: () => 204 };
  }
}

class Answer {
  constructor(method, xhr) {
    Object.assign(this, { method, xhr });
  }

  /**
   * To a HEAD that is not answered well, tus-js-client would begin a new upload; one that is locked it asks again, or
   * leaves alone. The status that was sent is that of the request below.
   */
  getStatus() {
    const { status } = this.xhr;
    return (this.method === "HEAD" && status >= 300) || LOCKED_FOR_CLIENT.includes(status) ? LOCKED : status;
  }

  getHeader(name) {
    return this.xhr.getResponseHeader(name);
  }

  getBody() {
    return this.xhr.responseText;
  }

  getUnderlyingObject() {
    return this.xhr;
  }
}
