// One upload by tus-js-client: node upload.mjs OPTIONS, which is JSON. The last line of output is JSON too.
//
// `stopAfter` ends the process as a crash would once so many bytes were sent; `urlStorage` is the file from which the
// next run goes on.
import { createReadStream } from "node:fs";
import { FileUrlStorage, Upload } from "tus-js-client";

const { endpoint, token, file, metadata, stopAfter, urlStorage, ...options } = JSON.parse(process.argv[2]);
const requests = [];
const storage = urlStorage && {
  urlStorage: new FileUrlStorage(urlStorage),
  fingerprint: () => Promise.resolve(`${file}-${options.parallelUploads ?? 1}`),
};

function end(outcome) {
  console.log(JSON.stringify({ ...outcome, requests }));
  process.exit(outcome.error ? 1 : 0);
}

const upload = new Upload(createReadStream(file), {
  endpoint,
  metadata,
  headers: { Authorization: `Bearer ${token}` },
  retryDelays: [0, 50, 100, 200, 400, 800, 1600, 3200],
  onAfterResponse: (request, response) => {
    requests.push([request.getMethod(), response.getStatus()]);
  },
  onProgress: (sent) => {
    if (stopAfter && sent >= stopAfter) end({ stopped: sent, url: upload.url });
  },
  onError: (error) => end({ error: String(error) }),
  onSuccess: ({ lastResponse }) => end({ url: upload.url, file: lastResponse.getHeader("Content-Location") }),
  ...storage,
  ...options,
});
if (storage) {
  const [previous] = await upload.findPreviousUploads();
  if (previous) upload.resumeFromPreviousUpload(previous);
}
upload.start();
