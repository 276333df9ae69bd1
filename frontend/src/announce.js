const KEPT = 5;
let region;

/** Makes a screen reader say this. The region must be on the page before its words. */
export function announce(words) {
  const line = document.createElement("p");
  line.textContent = words;
  region.append(line);
  while (region.children.length > KEPT) region.firstElementChild.remove();
}

export function readyToAnnounce() {
  if (region) return;
  region = document.createElement("div");
  region.className = "visually-hidden";
  region.setAttribute("role", "status");
  region.setAttribute("aria-atomic", "false");
  // Inside a landmark, like all content.
  document.getElementById("main").append(region);
}
