// A worker that computes the SHA-256 of files in pieces: they need not fit into memory, and the page stays responsive.
import { sha256 } from "@noble/hashes/sha2.js";

const PIECE_BYTES = 4 * 1024 * 1024;
// The browser's own SHA-256 is several times faster, but takes the whole file into memory.
const AT_ONCE_BYTES = 32 * 1024 * 1024;
const cancelled = new Set();

addEventListener("message", async ({ data: { id, file } }) => {
  if (!file) return cancelled.add(id);
  try {
    const digest = await digestOf(file, id);
    if (digest) postMessage({ id, digest });
  } catch {
    // The file is unreadable: its upload fails as well, and reports that.
    postMessage({ id, digest: null });
  }
  return cancelled.delete(id);
});

/** The digest, or null after a cancellation. */
async function digestOf(file, id) {
  // Missing on a plain http address.
  if (crypto.subtle && file.size <= AT_ONCE_BYTES) {
    return new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  }
  const hash = sha256.create();
  let ahead = read(file, 0);
  for (let start = 0; start < file.size; start += PIECE_BYTES) {
    const piece = await ahead;
    if (cancelled.has(id)) return null;
    ahead = read(file, start + PIECE_BYTES);
    hash.update(new Uint8Array(piece));
  }
  return hash.digest();
}

function read(file, start) {
  const piece = file.slice(start, start + PIECE_BYTES).arrayBuffer();
  // It is awaited one turn later; an earlier failure must not count as unhandled.
  piece.catch(() => {});
  return piece;
}
