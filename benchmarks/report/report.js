
"use strict";
// Tables sort by their headings, and long ones are searched; without this script they stand as they are.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const original = [...body.rows];
  const next = { none: "ascending", ascending: "descending", descending: "none" };

  const compare = (column, sign) => (first, second) => {
    const [a, b] = [first, second].map((row) => row.cells[column]);
    const [one, other] = [a, b].map((cell) => cell.dataset.value ?? cell.firstChild?.textContent.trim() ?? "");
    // What has no number stays at the end, in either order.
    if (one === "" || other === "") return (one === "") - (other === "");
    const numbers = [a, b].every((cell) => "value" in cell.dataset);
    if ("value" in a.dataset !== "value" in b.dataset) return "value" in a.dataset ? -1 : 1;
    return sign * (numbers ? Number(one) - Number(other) : one.localeCompare(other, "en", { numeric: true }));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const order = next[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      table.classList.toggle("sorted", order !== "none");
      const sign = order === "descending" ? -1 : 1;
      body.append(...(order === "none" ? original : [...original].sort(compare(column, sign))));
    });
  });

  if (original.length > 12) {
    const label = document.createElement("label");
    const field = document.createElement("input");
    const told = document.createElement("output");
    label.className = "filter";
    field.type = "search";
    field.placeholder = "int8 litert";
    label.append("Rows with ", field, told);
    table.parentElement.before(label);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of original) {
        const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ");
        row.hidden = !words.every((word) => text.includes(word));
      }
      const shown = original.filter((row) => !row.hidden).length;
      told.textContent = words.length ? `${shown} of ${original.length}` : "";
    });
  }
}
