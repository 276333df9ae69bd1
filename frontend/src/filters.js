/** A search form shows the filters that its list was made with, also when the browser goes back to the page. */
export function showAppliedFilters() {
  addEventListener("pageshow", ({ persisted }) => {
    const [navigation] = performance.getEntriesByType("navigation");
    if (!persisted && navigation?.type !== "back_forward") return;
    for (const form of document.querySelectorAll("form[role=search]")) form.reset();
  });
}
