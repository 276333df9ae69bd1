/** Shows the filters of the list in the search form, also when the browser goes back to the page. */
export function showAppliedFilters() {
  addEventListener("pageshow", ({ persisted }) => {
    const [navigation] = performance.getEntriesByType("navigation");
    if (!persisted && navigation?.type !== "back_forward") return;
    for (const form of document.querySelectorAll("form[role=search]")) form.reset();
  });
}
