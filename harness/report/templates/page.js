// Sorting: a button in every head of a sortable table; the column's own values, absent ones always last.
document.querySelectorAll("table.sortable").forEach(function (table) {
  var body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var value = function (row) {
        var cell = row.cells[column], text = cell.dataset.sort;
        if (text === undefined) text = cell.textContent.trim();
        return cell.classList.contains("n") || "number" in cell.dataset ? (text === "" ? NaN : Number(text)) : text;
      };
      Array.from(body.rows).map(function (row) { return [value(row), row]; }).sort(function (a, b) {
        var x = a[0], y = b[0];
        if (typeof x === "number" && typeof y === "number") {
          if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
          return up ? x - y : y - x;
        }
        return (up ? 1 : -1) * String(x).localeCompare(String(y), "en", { numeric: true });
      }).forEach(function (pair) { body.append(pair[1]); });
    });
  });
});
// Long boards start short; sorting brings other rows up.
document.querySelectorAll("table.board").forEach(function (table) {
  var rows = table.tBodies[0].rows.length, limit = 12;
  if (rows <= limit + 3) return;
  var button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  var label = function () {
    var short = table.classList.toggle("short");
    button.textContent = short ? "Show all " + rows + " rows" : "Show the first " + limit;
    button.setAttribute("aria-expanded", String(!short));
  };
  label();
  button.addEventListener("click", label);
  table.parentElement.after(button);
});
// Folded parts would be missing on paper.
addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not([open])").forEach(function (fold) { fold.open = true; fold.dataset.print = ""; });
});
addEventListener("afterprint", function () {
  document.querySelectorAll("details[data-print]").forEach(function (fold) { fold.open = false; delete fold.dataset.print; });
});
