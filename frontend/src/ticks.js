/** A box with `data-tick-all` ticks all boxes in the rows of its table, and shows their common state. */
export function offerTickAll() {
  document.addEventListener("change", ({ target }) => {
    if (!(target instanceof HTMLInputElement) || target.type !== "checkbox") return;
    const table = target.closest("table");
    const all = table?.querySelector("input[data-tick-all]");
    if (!all) return;
    const boxes = [...table.querySelectorAll("tbody input[type=checkbox]:not(:disabled)")];
    if (target === all) {
      for (const box of boxes) box.checked = all.checked;
    }
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = boxes.length > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  });
}
