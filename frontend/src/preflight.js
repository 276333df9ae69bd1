import { postJson } from "./api.js";

const MOST_FILES = 1000;
const HANDFUL = 8;
// A browser hashes in memory, so only small files are compared with stored ones.
const MOST_HASHED_BYTES = 32 * 1024 * 1024;

/** The verdicts on the files, in order, before any byte is sent. Throws Refused, or a TypeError offline. */
export async function verdicts(url, workspace, sendings) {
  const answers = [];
  for (let index = 0; index < sendings.length; index += MOST_FILES) {
    const files = sendings.slice(index, index + MOST_FILES).map(({ file, digest }) => ({
      filename: file.name,
      size: file.size,
      ...(digest && { sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("") }),
    }));
    answers.push(...(await postJson(url, { workspace, files })));
  }
  return answers;
}

/** The sendings, a few at a time, each with its `digest` where that is cheap. */
export async function* hashedByHandfuls(sendings) {
  for (let index = 0; index < sendings.length; index += HANDFUL) {
    const handful = sendings.slice(index, index + HANDFUL);
    await Promise.all(handful.map(hash));
    yield handful;
  }
}

async function hash(sending) {
  // Missing on a plain http address.
  if (!crypto.subtle || sending.file.size > MOST_HASHED_BYTES) return;
  try {
    sending.digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await sending.file.arrayBuffer()));
  } catch {
    // Unreadable: sending it will report that.
  }
}
