import { postJson } from "./api.js";

const MOST_FILES = 1000;

/** The verdicts on the rows, in order, before any byte is sent. Throws Refused, or a TypeError offline. */
export async function verdicts(url, workspace, rows) {
  const answers = [];
  for (let index = 0; index < rows.length; index += MOST_FILES) {
    const files = rows.slice(index, index + MOST_FILES).map(({ name, size }) => ({ filename: name, size }));
    answers.push(...(await postJson(url, { workspace, files })));
  }
  return answers;
}

/** The verdict on a file that is being sent, by its SHA-256. */
export async function verdictOn(url, { workspace, name }, digest) {
  const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  // Its bytes are reserved already. Counted a second time, they might exceed the quota.
  const [answer] = await postJson(url, { workspace, files: [{ filename: name, size: 1, sha256 }] });
  return answer;
}
