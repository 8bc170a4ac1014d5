// A heading of a table of class "sorts" orders its rows by that column: largest first, the other way at the next click.
for (const head of document.querySelectorAll("table.sorts thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    const text = (row) => row.cells[head.cellIndex].textContent.trim();
    const value = (row) => Number.parseFloat(text(row).replaceAll(",", ""));
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
      const found = Number.isNaN(x) ? text(b).localeCompare(text(a)) : y - x;
      return order === "descending" ? found : -found;
    };
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    body.append(...[...body.rows].sort(compare));
  });
}
