// Sends files by tus, so that bytes that have arrived are not sent again.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";
import { Refused, csrfToken, problemIn } from "./api.js";
import { Requests } from "./requests.js";

const AT_ONCE = 3;
// Some proxies limit a request: Cloudflare to 100 MB.
const PIECE_BYTES = 64 * 1024 * 1024;
const SOON = [0, 1, 3, 5, 10, 20, 30].map((seconds) => seconds * 1000);
// Without a connection it retries for a day.
const LATER = Array.from({ length: 24 * 60 }, () => 60_000);
// Retries while the server answers that it is busy: two minutes in all.
const MOST_BUSY = 8;
const BUSY = [0, 408, 409, 423, 425, 429];
const SIGNED_OUT = [401, 403];
const DISK_FULL = 507;
const silent = { debug() {}, warn() {}, error() {} };
// unfinished.js remembers unfinished uploads.
const noStorage = {
  findAllUploads: async () => [],
  findUploadsByFingerprint: async () => [],
  removeUpload: async () => {},
  addUpload: async () => null,
};

/** The file was changed, moved or deleted after it was chosen. */
export class Unreadable extends Error {}

/**
 * Sends files, a few in parallel, and retries after a retryable fault.
 *
 * A sending has `file`, `workspace`, and `url`, the address of its session ("" before it has one, and after the server
 * has ended it). The listeners get it back: `onBegun(sending)` before each of its requests, `onSession(sending)` when it
 * has its `url`, `onProgress(sending, bytes)`, `onTrouble(sending)` before a retry, `onStored(sending, id)`, and
 * `onFailed(sending, error)`, where the error is Refused, Unreadable, or null without a response. `beforeEnd(sending)` is
 * awaited before the last bytes; see Requests.
 */
export class Transport {
  constructor({ endpoint, beforeEnd, onBegun, onSession, onProgress, onTrouble, onStored, onFailed }) {
    Object.assign(this, { ids: new Map(), beforeEnd, onSession, onFailed });
    this.uppy = new Uppy({ logger: silent }).use(Tus, {
      endpoint,
      limit: AT_ONCE,
      chunkSize: PIECE_BYTES,
      retryDelays: [...SOON, ...LATER],
      storeFingerprintForResuming: false,
      urlStorage: noStorage,
      allowedMetaFields: ["filename", "filetype", "workspace", "lastmodified"],
      onBeforeRequest: (request, { meta }) => void onBegun(meta.sending),
      onShouldRetry: (error, tries, { sending }, retry) => {
        const status = error.originalResponse?.getUnderlyingObject().status ?? 0;
        if (!mayPass(status) || (status && status < 500 && tries >= MOST_BUSY)) return false;
        if (!status) this.lookAtFile(sending);
        onTrouble(sending);
        return retry(error);
      },
    });
    this.uppy.on("upload-progress", (file, { bytesUploaded }) => {
      if (this.ids.has(file?.meta.sending)) onProgress(file.meta.sending, bytesUploaded);
    });
    this.uppy.on("upload-success", ({ meta: { sending } }, { body: { xhr } }) => {
      this.forget(sending);
      onStored(sending, idIn(xhr.getResponseHeader("Content-Location")));
    });
    this.uppy.on("upload-error", ({ meta: { sending } }, error, answer) => {
      if (!this.ids.has(sending)) return;
      // A failed file leaves the queue, or the next upload would send it again.
      this.forget(sending);
      const { status = 0, responseText } = answer?.body.xhr ?? {};
      if (status && status < 500 && ![...BUSY, ...SIGNED_OUT].includes(status)) sending.url = "";
      onFailed(sending, status ? new Refused(status, problemIn(responseText)) : null);
    });
  }

  /** Begins an upload, or resumes the session of its `url`. */
  send(sending) {
    const { file, workspace, url } = sending;
    const fields = { filename: file.name, filetype: file.type, workspace, lastmodified: file.lastModified };
    // Uppy identifies files by their path; one may be sent twice on purpose.
    const meta = { ...fields, relativePath: newKey(), sending };
    const id = this.uppy.addFile({ name: file.name, type: file.type, data: file, meta });
    this.ids.set(sending, id);
    const listeners = { beforeEnd: () => this.beforeEnd(sending), onSession: () => this.onSession(sending) };
    this.uppy.setFileState(id, {
      tus: { sending, uploadUrl: url || null, httpStack: new Requests(sending, listeners) },
    });
    this.uppy.upload();
  }

  pause(sending) {
    const id = this.ids.get(sending);
    if (id && !this.uppy.getFile(id).isPaused) this.uppy.pauseResume(id);
  }

  resume(sending) {
    const id = this.ids.get(sending);
    if (id && this.uppy.getFile(id).isPaused) this.uppy.pauseResume(id);
    else if (!id) this.send(sending);
  }

  /** Stops sending, and ends the session on the server. Throws Refused, or a TypeError offline. */
  async cancel(sending) {
    const id = this.ids.get(sending);
    this.ids.delete(sending);
    if (id) this.drop(id);
    // If this fails, the address is unknown, and a session that has begun expires.
    await sending.creation?.catch(() => {});
    if (sending.url) await end(sending.url);
  }

  drop(id) {
    const uploader = this.uppy.getPlugin("Tus").uploaders[id];
    // For an upload with an address, Uppy would end the session itself, and ignore whether that fails.
    if (uploader) uploader.url = null;
    this.uppy.removeFile(id);
  }

  forget(sending) {
    const id = this.ids.get(sending);
    this.ids.delete(sending);
    // Uppy still reports on it.
    if (id) queueMicrotask(() => this.uppy.removeFile(id));
  }

  /** A request whose file has become unreadable fails without a reason. */
  async lookAtFile(sending) {
    try {
      await sending.file.slice(0, 1).arrayBuffer();
    } catch {
      if (!this.ids.has(sending)) return;
      await this.cancel(sending).catch(() => {});
      sending.url = "";
      this.onFailed(sending, new Unreadable());
    }
  }
}

/** A session that is gone already is no error. */
async function end(url) {
  const headers = { "Tus-Resumable": "1.0.0", "X-CSRFToken": csrfToken() };
  const answer = await fetch(url, { method: "DELETE", headers });
  if (!answer.ok && ![404, 410].includes(answer.status)) {
    throw new Refused(answer.status, problemIn(await answer.text()));
  }
}

function mayPass(status) {
  return BUSY.includes(status) || (status >= 500 && status !== DISK_FULL);
}

function idIn(address) {
  return address?.split("/").filter(Boolean).pop() ?? "";
}

/** Replaces randomUUID, which is missing on a plain http address. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
