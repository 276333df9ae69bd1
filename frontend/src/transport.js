// How bytes travel: one request a file, with its name and a key under which it is stored once however often it is sent.
import Uppy from "@uppy/core";
import XHRUpload from "@uppy/xhr-upload";
import { Refused, csrfToken, problemIn } from "./api.js";

const AT_ONCE = 3;
// 0.15 s, and twice as long each time: 19 s in all.
const RETRIES = 7;
const SILENT_SECONDS = 30;
// What may have been sent since the browser last told of its progress: half a second's worth, and never less than this.
const UNTOLD_SECONDS = 0.5;
const UNTOLD_BYTES = 256 * 1024;
const DISK_FULL = 507;
const silent = { debug() {}, warn() {}, error() {} };

/**
 * Sends files, a few at once, and sends one again by itself after a fault that may pass.
 *
 * A sending is `{ file, url, digest }`: where it goes to, and its SHA-256 as 32 bytes where that is known; what is to be
 * remembered of its last try is kept in its `tried`. The listeners get it back: `onProgress(sending, bytes)`,
 * `onSilence(sending)` when nothing has moved for long or it is sent again, `onStored(sending, row)`, and
 * `onFailed(sending, error)`, where the error is Refused, or null without any answer.
 */
export class Transport {
  constructor({ onProgress, onSilence, onStored, onFailed }) {
    this.ids = new Map();
    this.uppy = new Uppy({ logger: silent }).use(XHRUpload, {
      endpoint: (file) => file.meta.sending.url,
      formData: false,
      limit: AT_ONCE,
      retries: RETRIES,
      timeout: SILENT_SECONDS * 1000,
      headers: (file) => headersOf(file.meta.sending),
      shouldRetry: mayPass,
      onBeforeRequest: (xhr, count, [{ meta }]) => {
        if (count) onSilence(meta.sending);
        meta.sending.tried = nextTry(meta.sending);
        xhr.setRequestHeader("Idempotency-Key", meta.sending.tried.key);
      },
    });
    this.uppy.on("upload-progress", ({ meta }, { bytesUploaded }) => {
      if (!this.ids.has(meta.sending)) return;
      Object.assign(meta.sending.tried, { bytes: bytesUploaded, last: performance.now() });
      onProgress(meta.sending, bytesUploaded);
    });
    this.uppy.on("upload-stalled", (error, [file]) => onSilence(file.meta.sending));
    this.uppy.on("upload-success", ({ meta }, { body }) => {
      this.cancel(meta.sending);
      onStored(meta.sending, body);
    });
    this.uppy.on("upload-error", ({ meta }, error, xhr) => {
      // What has failed leaves the queue, or the next file that is sent would send it again.
      this.cancel(meta.sending);
      onFailed(meta.sending, xhr?.status ? new Refused(xhr.status, problemIn(xhr.responseText)) : null);
    });
  }

  send(sending) {
    const { file } = sending;
    // By its path Uppy tells two files apart; the same one may be sent twice on purpose.
    const meta = { relativePath: newKey(), sending };
    this.ids.set(sending, this.uppy.addFile({ name: file.name, type: file.type, data: file, meta }));
    this.uppy.upload();
  }

  cancel(sending) {
    const id = this.ids.get(sending);
    this.ids.delete(sending);
    // Uppy is still telling of it when it has ended.
    if (id) queueMicrotask(() => this.uppy.removeFile(id));
  }
}

/**
 * The key stays the same once the whole file may have arrived and only the answer was lost. A try that was cut short was
 * never stored, and a server that died of it would hold its key for a while yet.
 */
function nextTry({ file, tried }) {
  const mayHaveArrived = Boolean(tried) && (tried.mayHaveArrived || !wasCutShort(file, tried));
  const begun = performance.now();
  return { key: mayHaveArrived ? tried.key : newKey(), mayHaveArrived, begun, last: begun, bytes: 0 };
}

function wasCutShort(file, { begun, last, bytes }) {
  const bytesASecond = bytes / Math.max((last - begun) / 1000, UNTOLD_SECONDS);
  return file.size - bytes > Math.max(UNTOLD_BYTES, bytesASecond * UNTOLD_SECONDS);
}

/** Where randomUUID is not, on a plain http address, this is. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function headersOf({ file, digest }) {
  const headers = {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": `attachment; filename*=UTF-8''${encoded(file.name)}`,
    "X-CSRFToken": csrfToken(),
  };
  if (digest) headers["Repr-Digest"] = `sha-256=:${btoa(String.fromCharCode(...digest))}:`;
  return headers;
}

/** RFC 8187. */
function encoded(name) {
  const escaped = encodeURIComponent(name.replace(/\p{Surrogate}/gu, "\ufffd"));
  return escaped.replace(/['()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
}

function mayPass(xhr) {
  if (xhr.status === 409) return problemIn(xhr.responseText)?.code === "idempotency_in_progress";
  return xhr.status === 0 || xhr.status === 429 || (xhr.status >= 500 && xhr.status !== DISK_FULL);
}
