// The requests of tus-js-client: its option httpStack.
import { csrfToken } from "./api.js";

// After so long without progress, the connection counts as dead.
const SILENT_SECONDS = 30;
// After the last byte, the server may have to assemble the file and read it once more.
const COMPLETING_SECONDS = 60;
const COMPLETED_BYTES_A_SECOND = 20_000_000;
const LOCKED = 423;
const LOCKED_FOR_CLIENT = [408, 425];

/**
 * Makes the requests of one sending. `beforeEnd()` is awaited before the last bytes: it resolves to the file's SHA-256,
 * which the request then carries and the server verifies, or to null. `onSession()` is called once `sending.url` is the
 * address of the session.
 */
export class Requests {
  constructor(sending, { beforeEnd, onSession }) {
    Object.assign(this, { sending, beforeEnd, onSession });
  }

  createRequest(method, url) {
    return method === "POST" ? new Creation(method, url, this) : new Request(method, url, this);
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
    // It was aborted during the wait. The client expects neither a response nor an error any more.
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
 * Begins a session. It is never aborted, because only its response tells the address of the session. A second one
 * during that time shares the response.
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

class Answer {
  constructor(method, xhr) {
    Object.assign(this, { method, xhr });
  }

  /**
   * tus-js-client begins a new upload after any error to a HEAD, except "locked". The real status is that of the
   * underlying XMLHttpRequest.
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
