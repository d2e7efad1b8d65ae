"use strict";
(() => {
  const table = document.getElementById("cases");
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const field = document.getElementById("search"), label = document.getElementById("label"), count = document.getElementById("found");
  const key = (row, column) => {
    const told = row.cells[column].dataset.value;
    return told === undefined ? row.cells[column].textContent : told === "" ? null : Number(told);
  };
  // Rows without a figure come last, whichever way the others are sorted.
  const compare = (a, b, way) => a === null || b === null ? (a === null) - (b === null)
    : way * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  const sort = column => {
    const rising = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach(head => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", rising ? "ascending" : "descending");
    rows.sort((a, b) => compare(key(a, column), key(b, column), rising ? 1 : -1));
    body.append(...rows);
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
  const filter = () => {
    const wanted = field.value.trim().toLowerCase(), only = label ? label.value : "";
    let left = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(wanted) && (!only || row.dataset.label === only);
      row.hidden = !fits;
      left += fits;
    }
    count.textContent = left === rows.length ? "" : left + " of " + rows.length + " rows";
  };
  field.addEventListener("input", filter);
  if (label) label.addEventListener("change", filter);
})();
