// Sends each file in one request, with its name and a key under which it is stored once, however often it is sent.
import Uppy from "@uppy/core";
import XHRUpload from "@uppy/xhr-upload";
import { Refused, csrfToken, problemIn } from "./api.js";

const AT_ONCE = 3;
// 0.15 s, doubled each time: 19 s in all.
const RETRIES = 7;
const SILENT_SECONDS = 30;
// Bytes that may have been sent since the browser's last progress event: half a second's worth, at least this many.
const UNTOLD_SECONDS = 0.5;
const UNTOLD_BYTES = 256 * 1024;
const DISK_FULL = 507;
const silent = { debug() {}, warn() {}, error() {} };

/**
 * Sends files, a few in parallel, and retries after a retryable fault.
 *
 * A sending is `{ file, url, digest }`: the address, and the SHA-256 as 32 bytes if known; `tried` keeps facts about
 * its last attempt. The listeners get it back: `onProgress(sending, bytes)`, `onSilence(sending)` when nothing has
 * moved for long or it is sent again, `onStored(sending, row)`, and `onFailed(sending, error)`, where the error is
 * Refused, or null without a response.
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
      // A failed file leaves the queue, or the next upload would send it again.
      this.cancel(meta.sending);
      onFailed(meta.sending, xhr?.status ? new Refused(xhr.status, problemIn(xhr.responseText)) : null);
    });
  }

  send(sending) {
    const { file } = sending;
    // Uppy identifies files by their path; one may be sent twice on purpose.
    const meta = { relativePath: newKey(), sending };
    this.ids.set(sending, this.uppy.addFile({ name: file.name, type: file.type, data: file, meta }));
    this.uppy.upload();
  }

  cancel(sending) {
    const id = this.ids.get(sending);
    this.ids.delete(sending);
    // Uppy still reports on it after its end.
    if (id) queueMicrotask(() => this.uppy.removeFile(id));
  }
}

/**
 * The key stays the same once the whole file may have arrived and only the response was lost. An attempt that was cut
 * short was never stored, and a dead server would hold its key for a while.
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

/** Replaces randomUUID, which is missing on a plain http address. */
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
