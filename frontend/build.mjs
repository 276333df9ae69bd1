// Bundles src/ for the browser into the folder of static files that is named, or into the one of this checkout.
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

// make looks at pages.js to see whether all of it is there, so it comes last. hashing.js is a worker of upload.js.
const SCRIPTS = ["hashing.js", "upload.js", "pages.js"];
const target = process.argv[2] ?? fileURLToPath(new URL("../audiotricks/static/audiotricks/build", import.meta.url));

const { outputFiles } = await build({
  entryPoints: SCRIPTS.map((name) => fileURLToPath(new URL(`src/${name}`, import.meta.url))),
  outdir: target,
  bundle: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  minify: true,
  legalComments: "inline",
  charset: "utf8",
  write: false,
  // It has said what is wrong.
}).catch(() => process.exit(1));
await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
// A build that is killed leaves no half of a file under its name.
for (const name of SCRIPTS) {
  const file = outputFiles.find(({ path }) => basename(path) === name);
  await writeFile(join(target, `${name}.new`), file.contents);
  await rename(join(target, `${name}.new`), join(target, name));
}
