// A player's address expires, so a reader who returns to a paused recording would wait in vain.

const NETWORK_FAULTS = [MediaError.MEDIA_ERR_NETWORK, MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED];
// Chromium retries an expired address several times before it reports an error.
const SILENT_SECONDS = 3;

/** A player that fails or stalls requests its recording again, once at each position. */
export function keepPlaying() {
  const known = new WeakSet();
  const triedAt = new WeakMap();
  const silences = new WeakMap();

  function askOnce(audio) {
    // A recording that never got so far has another fault.
    if (!known.has(audio) || triedAt.get(audio) === audio.currentTime) return;
    triedAt.set(audio, audio.currentTime);
    askAnew(audio);
  }

  function listen(audio) {
    clearTimeout(silences.get(audio));
    const afterSilence = () => {
      silences.delete(audio);
      if (isWaiting(audio)) askOnce(audio);
    };
    silences.set(audio, setTimeout(afterSilence, SILENT_SECONDS * 1000));
  }

  on("loadedmetadata", (audio) => known.add(audio));
  on("error", (audio) => NETWORK_FAULTS.includes(audio.error?.code) && askOnce(audio));
  on("waiting", listen);
  on("progress", (audio) => silences.has(audio) && listen(audio));
}

/** A player's events do not bubble, and a live page may replace the player. */
function on(name, listener) {
  document.addEventListener(name, ({ target }) => target instanceof HTMLAudioElement && listener(target), true);
}

function isWaiting(audio) {
  return audio.readyState < HTMLMediaElement.HAVE_FUTURE_DATA && (audio.seeking || !audio.paused);
}

function askAnew(audio) {
  const { currentTime, paused } = audio;
  const goOn = () => {
    audio.currentTime = currentTime;
    // Some browsers require the reader's own click.
    if (!paused) audio.play().catch(() => {});
  };
  audio.addEventListener("loadedmetadata", goOn, { once: true });
  audio.load();
}
