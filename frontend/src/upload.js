// The upload page: several files, dropped or chosen, each with its progress. The form works without this.
import { getDroppedFiles } from "@uppy/core/utils";
import { announce, readyToAnnounce } from "./announce.js";
import { Refused, getJson, renewToken } from "./api.js";
import { hashedByHandfuls, verdicts } from "./preflight.js";
import { Row } from "./row.js";
import { Transport } from "./transport.js";
import { percent, say, size } from "./words.js";

const FIRST_LOOK_SECONDS = 1;
const LAST_LOOK_SECONDS = 15;

const form = document.getElementById("upload-form");
const sender = document.getElementById("sender");
const chooser = document.getElementById("chooser");
const choose = document.getElementById("choose");
const zone = document.getElementById("drop");
const list = document.getElementById("sending");
const total = document.getElementById("total");
const addresses = sender.dataset;
const rows = new Set();

const transport = new Transport({
  onProgress(row, bytes) {
    row.showProgress(bytes);
    showTotal();
  },
  onSilence(row) {
    row.show(row.state, say("again"));
  },
  onStored(row, upload) {
    row.sent = row.file.size;
    row.progress.value = 1;
    row.show("checking", say("checking"), { address: pageOf(upload.id) });
    showTotal();
    follow(row, upload.id);
  },
  onFailed(row, error) {
    refuse(row, error);
  },
});

/** Asks about the files, then sends those that can go; one that is stored already waits for a decision. */
async function take(taken) {
  try {
    const answers = await verdicts(addresses.preflight, taken[0].workspace, taken);
    const left = taken.filter((row, index) => !isDecided(row, answers[index]));
    for await (const handful of hashedByHandfuls(left)) await takeHandful(handful);
  } catch (error) {
    for (const row of taken.filter(isAsking)) refuse(row, error instanceof Refused ? error : null);
  }
  showTotal();
}

/** Asks again about a refused file, perhaps after a new sign-in. */
async function takeAgain(row) {
  row.show("asking", say("asking"));
  try {
    await renewToken();
  } catch {
    // Without a response the file is refused below, with a message.
  }
  take([row]);
}

async function takeHandful(handful) {
  const known = handful.filter((row) => isAsking(row) && row.digest);
  const answers = known.length ? await verdicts(addresses.preflight, known[0].workspace, known) : [];
  known.forEach((row, index) => isDecided(row, answers[index]));
  handful.filter(isAsking).forEach(send);
}

/** Whether nothing more can be done for now; says why. */
function isDecided(row, { verdict, detail, upload }) {
  if (!isAsking(row)) return true;
  if (verdict === "refused") refuse(row, new Refused(0, { detail }));
  else if (verdict !== "accept") row.show("held", say(verdict), { address: pageOf(upload) });
  return verdict !== "accept";
}

function isAsking(row) {
  return rows.has(row) && row.state === "asking";
}

function send(row) {
  row.sent = 0;
  row.progress.value = 0;
  row.show("waiting", say("waiting"));
  transport.send(row);
}

function refuse(row, error) {
  row.sent = 0;
  row.show("refused", whyNot(error));
  announce(say("told", { name: row.file.name, words: row.words.textContent }));
  showTotal();
}

function whyNot(error) {
  if (!error) return say("unreachable");
  if (error.status === 401 || error.code === "csrf_failed") return say("signed-out");
  return error.code === "idempotency_in_progress" ? say("earlier") : error.message || say("refused");
}

/** Shows the state of a stored file until a worker is done with it. */
async function follow(row, id, seconds = FIRST_LOOK_SECONDS) {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  if (!document.hidden) {
    try {
      const { status, error_message: reason } = await getJson(`${addresses.uploads}${id}/`);
      if (status === "completed") return finish(row, "completed", say("completed"));
      if (status === "failed") return finish(row, "failed", reason || say("failed"));
    } catch (error) {
      // It is stored all the same. A missing or foreign file is nothing to wait for.
      if (error instanceof Refused && error.status < 500 && error.status !== 429) return undefined;
    }
  }
  return follow(row, id, Math.min(seconds * 1.5, LAST_LOOK_SECONDS));
}

function finish(row, state, words) {
  row.show(state, words);
  if (state === "failed") announce(say("told", { name: row.file.name, words }));
  showTotal();
}

function remove(row) {
  const index = [...list.children].indexOf(row.element);
  transport.cancel(row);
  rows.delete(row);
  row.element.remove();
  const next = [...rows].find(({ element }) => element === list.children[Math.min(index, list.children.length - 1)]);
  if (next) next.focus();
  else choose.focus();
  showTotal();
}

let allWereDone = true;

function showTotal() {
  const all = [...rows];
  const stored = all.filter((row) => row.isStored);
  // Bytes that will not be sent are not waited for.
  const going = all.filter((row) => row.isUnderWay || row.isStored);
  const bytes = going.reduce((sum, row) => sum + row.file.size, 0);
  const sent = going.reduce((sum, row) => sum + row.sent, 0);
  total.hidden = all.length < 2;
  total.querySelector("progress").value = bytes ? sent / bytes : 0;
  const values = { done: stored.length, count: all.length, sent: size(sent), size: size(bytes) };
  total.querySelector("p").textContent = say("total", { ...values, percent: percent(bytes ? sent / bytes : 0) });
  const allAreDone = !all.some((row) => row.isUnderWay);
  if (allAreDone && !allWereDone && all.length) announce(say("finished", values));
  allWereDone = allAreDone;
}

function add(files) {
  const workspace = form.elements.workspace.value;
  const url = `${addresses.uploads}?workspace=${encodeURIComponent(workspace)}`;
  const added = files.map((file) => new Row(file, workspace, url));
  for (const row of added) {
    rows.add(row);
    list.append(row.element);
    row.element.addEventListener("click", ({ target }) => {
      const action = target.closest("[data-do]")?.dataset.do;
      if (action === "remove") remove(row);
      if (action === "send") send(row);
      if (action === "ask") takeAgain(row);
    });
  }
  showTotal();
  if (added.length) take(added);
}

function pageOf(id) {
  return addresses.page.replace("00000000-0000-0000-0000-000000000000", id);
}

function offerDropping() {
  let depth = 0;
  const isForUs = (event) => event.dataTransfer?.types.includes("Files") && !event.target.closest?.("input[type=file]");
  const light = (change) => zone.classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
  addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && light(1));
  addEventListener("dragleave", (event) => event.dataTransfer?.types.includes("Files") && light(-1));
  addEventListener("dragover", (event) => isForUs(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    light(-depth);
    if (!isForUs(event)) return;
    event.preventDefault();
    const files = await getDroppedFiles(event.dataTransfer);
    // Files of a folder for the system's own use.
    add(files.filter(({ name }) => !name.startsWith(".")));
  });
}

readyToAnnounce();
choose.addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  add([...chooser.files]);
  chooser.value = "";
});
offerDropping();
addEventListener("beforeunload", (event) => {
  if ([...rows].some((row) => row.isUnderWay)) event.preventDefault();
});
const plain = document.getElementById("plain");
const withPicture = document.getElementById("with-picture");
withPicture.open = Boolean(document.querySelector("[role=alert]"));
withPicture.append(plain);
withPicture.hidden = false;
sender.hidden = false;
