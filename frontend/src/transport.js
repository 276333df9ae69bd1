// How bytes travel: one request a file, with its name and a key under which it is stored once however often it is sent.
import Uppy from "@uppy/core";
import XHRUpload from "@uppy/xhr-upload";
import { Refused, csrfToken, problemIn } from "./api.js";

const AT_ONCE = 3;
// 0.15 s, and twice as long each time: 19 s in all.
const RETRIES = 7;
const SILENT_SECONDS = 30;
const DISK_FULL = 507;
const silent = { debug() {}, warn() {}, error() {} };

/**
 * Sends files, a few at once, and sends one again by itself after a fault that may pass.
 *
 * A sending is `{ file, key, url, digest }`: its key, and the SHA-256 as 32 bytes where it is known. The listeners get
 * it back: `onProgress(sending, bytes)`, `onSilence(sending)` when nothing has moved for long or it is sent again,
 * `onStored(sending, row)`, and `onFailed(sending, error)`, where the error is Refused, or null without any answer.
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
      onBeforeRequest: (xhr, tried, [file]) => {
        if (tried) onSilence(file.meta.sending);
      },
    });
    this.uppy.on("upload-progress", ({ meta }, { bytesUploaded }) => {
      if (this.ids.has(meta.sending)) onProgress(meta.sending, bytesUploaded);
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
    const { file, key } = sending;
    // By its path Uppy tells two files apart; the same one may be sent twice on purpose.
    const meta = { relativePath: key, sending };
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

function headersOf({ file, key, digest }) {
  const headers = {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": `attachment; filename*=UTF-8''${encoded(file.name)}`,
    "Idempotency-Key": key,
    "X-CSRFToken": csrfToken(),
  };
  if (digest) headers["Repr-Digest"] = `sha-256=:${btoa(String.fromCharCode(...digest))}:`;
  return headers;
}

/** RFC 8187. */
function encoded(name) {
  return encodeURIComponent(name.replace(/\p{Surrogate}/gu, "\ufffd")).replace(/['()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
}

function mayPass(xhr) {
  if (xhr.status === 409) return problemIn(xhr.responseText)?.code === "idempotency_in_progress";
  return xhr.status === 0 || xhr.status === 429 || (xhr.status >= 500 && xhr.status !== DISK_FULL);
}
