// The address that a player was sent to ends after a while: one who comes back to a paused recording would wait in vain.

const NETWORK_FAULTS = [MediaError.MEDIA_ERR_NETWORK, MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED];
// Chromium asks an address that has ended again and again before it tells of an error.
const SILENT_SECONDS = 3;

/** A player that breaks off, or waits while nothing comes, asks for its recording anew: once at each place. */
export function keepPlaying() {
  const known = new WeakSet();
  const triedAt = new WeakMap();
  const silences = new WeakMap();

  function askOnce(audio) {
    // One that never came so far has a fault that asking again does not mend.
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

/** Events of a player do not bubble, and a live page may put another player in its place. */
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
    // A browser may want the reader's own click for it.
    if (!paused) audio.play().catch(() => {});
  };
  audio.addEventListener("loadedmetadata", goOn, { once: true });
  audio.load();
}
