// The upload page: chosen or dropped files and folders, whose uploads can be paused and resumed.
import { announce, readyToAnnounce } from "./announce.js";
import { Refused, getJson, renewToken } from "./api.js";
import { Digests } from "./digests.js";
import { chosen, dropped, pick } from "./files.js";
import { Pace } from "./pace.js";
import { verdictOn, verdicts } from "./preflight.js";
import { Row, paceOf } from "./row.js";
import { Transport, Unreadable } from "./transport.js";
import { forget, occupy, remember, unfinished } from "./unfinished.js";
import { moment, percent, say, size } from "./words.js";

const FIRST_LOOK_SECONDS = 1;
const LAST_LOOK_SECONDS = 15;

const form = document.getElementById("upload-form");
const sender = document.getElementById("sender");
const chooser = document.getElementById("chooser");
const folderChooser = document.getElementById("folder-chooser");
const choose = document.getElementById("choose");
const chooseFolder = document.getElementById("choose-folder");
const zone = document.getElementById("drop");
const list = document.getElementById("sending");
const total = document.getElementById("total");
const leftOut = document.getElementById("left-out");
const left = document.getElementById("unfinished");
const addresses = sender.dataset;
const rows = new Set();
const digests = new Digests(addresses.hashing);
const pace = new Pace();
/** The row whose file the open dialogue is about, if any. */
let chosenFor = null;

const transport = new Transport({
  endpoint: new URL(addresses.tus, location.href).href,
  beforeEnd(row) {
    if (!row.digest) row.show("sending", row.describe("comparing"));
    return questionOf(row);
  },
  onBegun(row) {
    // Hashing runs in parallel with sending; only the last bytes wait for it.
    questionOf(row).catch(() => {});
  },
  onSession(row) {
    row.leave ??= occupy(row.url);
    row.forget = remember(row);
  },
  onProgress(row, bytes) {
    row.showProgress(bytes);
    showTotal();
  },
  onTrouble(row) {
    const isFirst = ![...rows].some(({ isInTrouble }) => isInTrouble);
    row.isInTrouble = true;
    row.pace.reset();
    row.show("sending", row.describe(navigator.onLine ? "again" : "offline"));
    if (isFirst) tell(row);
  },
  onStored(row, id) {
    settle(row);
    row.sent = row.size;
    row.progress.value = 1;
    row.show("checking", say("checking"), { address: pageOf(id) });
    showTotal();
    follow(row, id);
  },
  onFailed(row, error) {
    if (!row.url) settle(row);
    refuse(row, error);
  },
});

// --- Sending

/** Asks about names, sizes and the quota, then sends the files that can go. */
async function take(taken) {
  try {
    const answers = await verdicts(addresses.preflight, taken[0].workspace, taken);
    for (const [index, row] of taken.entries()) {
      const { verdict, detail } = answers[index];
      if (!isAsking(row)) continue;
      if (verdict === "refused") refuse(row, new Refused(0, { detail }));
      else send(row);
    }
  } catch (error) {
    for (const row of taken.filter(isAsking)) refuse(row, error instanceof Refused ? error : null);
  }
  showTotal();
}

/** Tries a refused file again, perhaps after a new sign-in. */
async function takeAgain(row) {
  row.show("asking", say("asking"));
  try {
    await renewToken();
  } catch {
    // Without a response the file is refused below, with a message.
  }
  if (row.url) send(row);
  else take([row]);
}

function isAsking(row) {
  return rows.has(row) && row.state === "asking";
}

function send(row) {
  row.show("waiting", say("waiting"));
  row.pace.reset();
  if (row.url) row.leave ??= occupy(row.url);
  transport.resume(row);
}

/**
 * The SHA-256 of a row's file, after the server was asked for duplicates. If that question fails, so does this, and the
 * next call asks again.
 */
function questionOf(row) {
  row.question ??= askAboutContent(row).catch((error) => {
    row.question = null;
    throw error;
  });
  return row.question;
}

async function askAboutContent(row) {
  row.hashing = new AbortController();
  row.digest ??= await digests.of(row.file, row.hashing.signal);
  if (!row.digest || !rows.has(row)) return null;
  const { verdict, upload } = await verdictOn(addresses.preflight, row, row.digest);
  if (rows.has(row) && ["duplicate", "in_trash"].includes(verdict)) {
    transport.pause(row);
    row.show("held", say(verdict), { address: pageOf(upload) });
    tell(row);
    showTotal();
  }
  return row.digest;
}

function pause(row) {
  transport.pause(row);
  row.pace.reset();
  row.show("paused", row.describe("paused"));
  showTotal();
}

function refuse(row, error) {
  row.isInTrouble = false;
  row.show("refused", whyNot(error));
  tell(row);
  showTotal();
}

function whyNot(error) {
  if (!error) return say("unreachable");
  if (error instanceof Unreadable) return say("unreadable");
  if (error.status === 401 || error.code === "csrf_failed") return say("signed-out");
  if (error.message) return error.message;
  if (error.status === 404 || error.status === 410) return say("gone");
  return say(error.status === 423 ? "elsewhere" : "refused");
}

/** Forgets a session that has ended. */
function settle(row) {
  row.leave?.();
  row.forget?.();
  row.leave = row.forget = null;
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
  if (state === "failed") tell(row);
  showTotal();
}

async function remove(row) {
  const index = [...list.children].indexOf(row.element);
  rows.delete(row);
  row.element.remove();
  row.hashing?.abort();
  const next = [...rows].find(({ element }) => element === list.children[Math.min(index, list.children.length - 1)]);
  if (next) next.focus();
  else choose.focus();
  showTotal();
  if (row.isStored) return;
  try {
    await transport.cancel(row);
    settle(row);
  } catch {
    // The session stays until it expires, and the next visit of this page shows it.
    row.leave?.();
    announce(say("told", { name: row.name, words: say("not-discarded") }));
  }
}

// --- Unfinished uploads of earlier visits

async function showUnfinished() {
  let found;
  try {
    found = await unfinished(addresses.sessions);
  } catch {
    // The page works without them.
    return;
  }
  const mine = new Set([...rows].map(({ url }) => url));
  for (const session of found.filter(({ url }) => !mine.has(url))) {
    const row = new Row({ ...session, handle: Promise.resolve(session.handle) });
    row.kept = { lastModified: session.lastModified, expires: moment(session.expires) };
    row.forget = () => forget(session.url);
    row.sent = session.received;
    row.progress.value = row.fraction;
    put(row);
    leaveUnfinished(row, session.handle ? "unfinished" : "missing");
  }
  showTotal();
}

function leaveUnfinished(row, state, words = row.describe(state, row.kept)) {
  row.show(state, words);
}

/** Resumes with the file of the browser's handle. */
async function goOn(row) {
  if (row.state === "paused") return send(row);
  const handle = await row.handle;
  try {
    if ((await handle.requestPermission({ mode: "read" })) !== "granted") return miss(row, "not-allowed");
    const file = await handle.getFile();
    return isSameFile(row, file) ? continueWith(row, file) : miss(row, "changed");
  } catch {
    return miss(row, "not-found");
  }
}

function miss(row, word) {
  leaveUnfinished(row, "missing", row.describe(word, row.kept));
  tell(row);
}

function continueWith(row, file, handle = row.handle) {
  Object.assign(row, { file, handle });
  row.forget = remember(row);
  send(row);
  showTotal();
}

function isSameFile({ name, size, kept }, file) {
  return name === file.name && size === file.size && (!kept.lastModified || kept.lastModified === file.lastModified);
}

async function chooseAgain(row) {
  chosenFor = row;
  chooser.multiple = false;
  const files = await pick({ multiple: false, ...picture() });
  if (files === null) chooser.click();
  else useFor(row, files);
}

function useFor(row, [taken]) {
  chosenFor = null;
  chooser.multiple = true;
  if (!taken) return;
  if (isSameFile(row, taken.file)) continueWith(row, taken.file, taken.handle);
  else miss(row, "another");
}

// --- The list

function put(row) {
  rows.add(row);
  list.append(row.element);
  const actions = { remove, send: sendAnyway, ask: takeAgain, pause, on: goOn, choose: chooseAgain };
  row.element.addEventListener("click", ({ target }) => actions[target.closest("[data-do]")?.dataset.do]?.(row));
}

function sendAnyway(row) {
  send(row);
  showTotal();
}

function add(files) {
  const accepted = chooser.accept.split(",");
  // Folders hold other files too; only their audio is sent.
  const isMeant = ({ file, path }) => !path || accepted.some((ending) => file.name.toLowerCase().endsWith(ending));
  const meant = files.filter(isMeant);
  leftOut.hidden = meant.length === files.length;
  leftOut.textContent = say("left-out", { count: files.length - meant.length });
  if (!leftOut.hidden) announce(leftOut.textContent);
  const waiting = [...rows].filter(({ state, kept }) => ["unfinished", "missing"].includes(state) && kept.lastModified);
  const added = [];
  for (const { file, path, handle } of meant) {
    const known = waiting.findIndex((row) => isSameFile(row, file));
    if (known >= 0) {
      continueWith(waiting.splice(known, 1)[0], file, handle);
      continue;
    }
    const { name, size } = file;
    const row = new Row({ name, size, path, file, handle, workspace: form.elements.workspace.value });
    row.show("asking", say("asking"));
    put(row);
    added.push(row);
  }
  showTotal();
  if (added.length) take(added);
}

let allWereDone = true;

function showTotal() {
  const all = [...rows];
  const isLeft = ({ state }) => ["unfinished", "missing"].includes(state);
  const listed = all.filter((row) => !isLeft(row));
  const stored = all.filter((row) => row.isStored);
  const going = all.filter((row) => row.isGoing);
  const bytes = going.reduce((sum, row) => sum + row.size, 0);
  const sent = going.reduce((sum, row) => sum + row.sent, 0);
  const allAreDone = !all.some((row) => row.isUnderWay);
  if (allAreDone) pace.reset();
  else pace.note(sent);
  const values = { done: stored.length, count: listed.length, sent: size(sent), size: size(bytes) };
  const fraction = bytes ? sent / bytes : 0;
  total.hidden = listed.length < 2;
  total.querySelector("progress").value = fraction;
  total.querySelector("p").textContent =
    say("total", { ...values, percent: percent(fraction) }) + paceOf(pace, bytes - sent);
  left.hidden = !all.some(isLeft);
  left.querySelector("p").textContent = say("left", { count: all.filter(isLeft).length });
  showForAll("pause", all.filter(({ state }) => ["waiting", "sending"].includes(state)));
  showForAll("on", all.filter(({ state }) => state === "paused"));
  showForAll("left", all.filter(({ state }) => state === "unfinished"));
  if (allAreDone && !allWereDone && listed.some((row) => row.isStored)) announce(say("finished", values));
  allWereDone = allAreDone;
}

function showForAll(name, meant) {
  const button = sender.querySelector(`[data-all=${name}]`);
  const isHidden = meant.length < 2;
  if (isHidden && button === document.activeElement) choose.focus();
  button.hidden = isHidden;
}

async function doForAll(name) {
  const state = { pause: ["waiting", "sending"], on: ["paused"], left: ["unfinished"] }[name];
  for (const row of [...rows].filter((each) => state.includes(each.state))) {
    if (name === "pause") pause(row);
    else await goOn(row);
  }
}

/** Announces the row's message to screen readers. */
function tell(row) {
  announce(say("told", { name: row.name, words: row.words.textContent }));
}

function pageOf(id) {
  return id && addresses.page.replace("00000000-0000-0000-0000-000000000000", id);
}

// --- Choosing and dropping

function picture() {
  return { extensions: chooser.accept.split(","), description: addresses.kinds };
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
    add(await dropped(event.dataTransfer));
  });
}

readyToAnnounce();
choose.addEventListener("click", async () => {
  const files = await pick(picture());
  if (files === null) chooser.click();
  else add(files);
});
chooseFolder.hidden = !("webkitdirectory" in folderChooser);
chooseFolder.addEventListener("click", () => folderChooser.click());
folderChooser.addEventListener("change", () => add(chosen(folderChooser)));
chooser.addEventListener("change", () => (chosenFor ? useFor(chosenFor, chosen(chooser)) : add(chosen(chooser))));
chooser.addEventListener("cancel", () => chosenFor && useFor(chosenFor, []));
sender.addEventListener("click", ({ target }) => {
  const name = target.closest("[data-all]")?.dataset.all;
  if (name) doForAll(name);
});
offerDropping();
addEventListener("online", () => {
  for (const row of [...rows].filter(({ isInTrouble }) => isInTrouble)) {
    transport.pause(row);
    transport.resume(row);
  }
});
addEventListener("beforeunload", (event) => {
  if ([...rows].some((row) => row.isUnderWay || row.state === "paused")) event.preventDefault();
});
const plain = document.getElementById("plain");
const withPicture = document.getElementById("with-picture");
withPicture.open = Boolean(document.querySelector("[role=alert]"));
withPicture.append(plain);
withPicture.hidden = false;
sender.hidden = false;
showUnfinished();
