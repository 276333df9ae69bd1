// Unfinished uploads of earlier visits: the server knows how much has arrived, the browser where the file is.
import { getJson } from "./api.js";

const STORE = "uploads";
// Sessions on the server live shorter.
const KEPT_DAYS = 8;
const MOST_PAGES = 10;

/**
 * The unfinished uploads, newest first: `{ url, name, path, size, received, lastModified, expires, workspace, handle }`.
 * The handle is a FileSystemFileHandle, or null. Throws Refused, or a TypeError offline.
 */
export async function unfinished(address) {
  const [sessions, known, busy] = await Promise.all([sessionsAt(address), remembered(), busyElsewhere()]);
  return sessions
    .filter(({ url }) => !busy.has(lockOf(url)))
    .map((session) => {
      const record = known.get(idOf(session.url));
      return {
        url: session.url,
        name: session.filename,
        path: record?.path ?? "",
        size: session.size,
        received: session.received,
        lastModified: Number(session.last_modified) || record?.lastModified || null,
        expires: new Date(session.expires_at),
        workspace: session.workspace,
        handle: record?.handle ?? null,
      };
    });
}

async function sessionsAt(address) {
  const sessions = [];
  let next = address;
  for (let page = 0; next && page < MOST_PAGES; page += 1) {
    const answer = await getJson(next);
    sessions.push(...answer.results);
    next = answer.next;
  }
  return sessions.filter(({ kind, is_partial: isPartial, size }) => kind === "tus" && !isPartial && size);
}

/**
 * Stores where the file of a session is, and returns a function that removes that. Browsers that store nothing, such as
 * in a private window, are no error.
 */
export function remember({ url, file, path, handle }) {
  const kept = handle.then((found) => {
    const record = { id: idOf(url), path, lastModified: file.lastModified, handle: found, noted: Date.now() };
    return inStore("readwrite", (store) => store.put(record));
  });
  return () => kept.then(() => forget(url));
}

export function forget(url) {
  return inStore("readwrite", (store) => store.delete(idOf(url)));
}

async function remembered() {
  const records = (await inStore("readonly", (store) => store.getAll())) ?? [];
  const old = records.filter(({ noted }) => noted < Date.now() - KEPT_DAYS * 24 * 3600 * 1000);
  for (const { id } of old) await inStore("readwrite", (store) => store.delete(id));
  return new Map(records.map((record) => [record.id, record]));
}

/** The result of a database request; undefined if the database does not work. */
async function inStore(mode, ask) {
  try {
    const database = await opened();
    const transaction = database.transaction(STORE, mode);
    const result = await settled(ask(transaction.objectStore(STORE)));
    database.close();
    return result;
  } catch {
    return undefined;
  }
}

function opened() {
  const request = indexedDB.open("audiotricks", 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(STORE, { keyPath: "id" }));
  return settled(request);
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}

/** Tells other tabs that this one sends the file; returns a function that ends that. */
export function occupy(url) {
  let end = () => {};
  const ended = new Promise((resolve) => (end = resolve));
  navigator.locks?.request(lockOf(url), () => ended).catch(() => {});
  return end;
}

async function busyElsewhere() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return new Set(held.map(({ name }) => name));
}

function lockOf(url) {
  return `audiotricks-upload-${idOf(url)}`;
}

function idOf(url) {
  return new URL(url, location.href).pathname.split("/").filter(Boolean).pop();
}
