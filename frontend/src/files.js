// Chosen and dropped files, each with its path in a folder, and the browser's handle if there is one.
import { getDroppedFiles } from "@uppy/core/utils";

/**
 * `{ file, path, handle }`: the path is that of its folder, such as "album/disc/", or "". The handle is a promise of a
 * FileSystemFileHandle, which outlives the page, or of null.
 */
function taken(file, path = "", handle = null) {
  return { file, path, handle: Promise.resolve(handle).catch(() => null) };
}

export function chosen(input) {
  const files = [...input.files].map((file) => taken(file, folderOf(file.webkitRelativePath)));
  input.value = "";
  return listed(files);
}

/** Opens the browser's file dialogue that gives handles. null: there is none. An empty list: it was cancelled. */
export async function pick({ multiple = true, extensions, description }) {
  if (!globalThis.showOpenFilePicker) return null;
  try {
    const types = [{ description, accept: { "audio/*": extensions } }];
    const handles = await showOpenFilePicker({ multiple, types });
    return await Promise.all(handles.map(async (handle) => taken(await handle.getFile(), "", handle)));
  } catch (error) {
    if (error.name === "AbortError") return [];
    return null;
  }
}

/** Call it while the event is handled: later, the data is gone. */
export async function dropped(dataTransfer) {
  const handles = handlesIn(dataTransfer);
  const files = await getDroppedFiles(dataTransfer);
  return listed(
    files.map((file) => {
      const path = (file.relativePath ?? "").split("/").filter(Boolean);
      return taken(file, folderOf(path.join("/")), handleAt(handles, path.length ? path : [file.name]));
    }),
  );
}

function handlesIn(dataTransfer) {
  // Chromium crashes on a plain http address: https://github.com/transloadit/uppy/issues/4133
  if (!isSecureContext || !DataTransferItem.prototype.getAsFileSystemHandle) return Promise.resolve([]);
  const files = [...dataTransfer.items].filter(({ kind }) => kind === "file");
  return Promise.all(files.map((item) => item.getAsFileSystemHandle().catch(() => null)));
}

async function handleAt(handles, path) {
  let handle = (await handles).find((each) => each?.name === path[0]);
  for (const [index, name] of path.slice(1).entries()) {
    handle = await (index === path.length - 2 ? handle?.getFileHandle(name) : handle?.getDirectoryHandle(name));
  }
  return handle?.kind === "file" ? handle : null;
}

function folderOf(path) {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

/** Without hidden files, in natural order of names. */
function listed(files) {
  const { compare } = new Intl.Collator(document.documentElement.lang, { numeric: true });
  const visible = files.filter(({ file, path }) => !`/${path}${file.name}`.includes("/."));
  return visible.sort((one, other) => compare(one.path + one.file.name, other.path + other.file.name));
}
