// Tables sort by a button in every head, long ones filter by words, and long boards start short.
// What a filter or a short board leaves out is hidden on screens only (page.css): paper has every row.
var FILTERED_FROM = 9, SHORT_ROWS = 12, SHORT_FROM = 16;

// One kind of space, of minus and of letter, so that what is typed finds what is printed.
function plain(text) {
  return text.replace(/\s+/g, " ").replace(/\u2212/g, "-").toLowerCase().trim();
}
function element(tag, properties, ...children) {
  var made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

document.querySelectorAll("table.sortable").forEach(function (table, place) {
  var body = table.tBodies[0], rows = Array.from(body.rows), box = table.parentElement;
  if (rows.length < 2) return;
  var short = table.classList.contains("board") && rows.length >= SHORT_FROM, more = null;
  var words = [], texts = null, told = null;
  table.id = table.id || "table-" + (place + 1);

  // Every word must be in a row, -word must not.
  function matches(row) {
    var text = texts.get(row);
    return words.every(function (word) {
      return word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word);
    });
  }
  function show() {
    var found = 0;
    rows.forEach(function (row) {
      var out = words.length > 0 && !matches(row);
      if (!out) found += 1;
      row.classList.toggle("out", out);
      row.classList.toggle("beyond", !out && short && found > SHORT_ROWS);
    });
    if (told) told.value = words.length ? found + " of " + rows.length + " rows" : rows.length + " rows";
    if (!more) return;
    more.hidden = found <= SHORT_ROWS;
    more.textContent = short ? "Show all " + found + " rows" : "Show the first " + SHORT_ROWS;
    more.setAttribute("aria-expanded", String(!short));
  }

  var collator = new Intl.Collator("en", { numeric: true });
  function sortBy(head, column) {
    var up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    var value = function (row) {
      var cell = row.cells[column], text = cell.dataset.sort;
      if (text === undefined) text = cell.textContent.trim();
      return cell.classList.contains("n") || "number" in cell.dataset ? (text === "" ? NaN : Number(text)) : text;
    };
    rows = rows.map(function (row) { return [value(row), row]; }).sort(function (a, b) {
      var x = a[0], y = b[0];
      if (typeof x === "number" && typeof y === "number") {
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);  // absent values last, up and down
        return up ? x - y : y - x;
      }
      return (up ? 1 : -1) * collator.compare(String(x), String(y));
    }).map(function (pair) { return pair[1]; });
    body.append(...rows);
    show();
  }

  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    var button = element("button", { type: "button", onclick: function () { sortBy(head, column); } }, ...head.childNodes);
    head.append(button);
  });
  if (rows.length >= FILTERED_FROM) {
    var hint = element("span", { className: "hint", id: table.id + "-hint" }, "Rows with every word; -word leaves rows out.");
    var input = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    input.setAttribute("aria-controls", table.id);
    input.setAttribute("aria-describedby", hint.id);
    input.addEventListener("input", function () {
      words = plain(input.value).split(" ").filter(function (word) { return word !== "" && word !== "-"; });
      // Read once, when first needed: 10 ms for 1,000 rows.
      texts = texts || new Map(rows.map(function (row) {
        return [row, plain(Array.from(row.cells, function (cell) { return cell.textContent; }).join(" "))];
      }));
      show();
    });
    var name = "Filter " + table.caption.querySelector("b").textContent.replace(".", "").toLowerCase() + " ";
    told = element("output", {});
    box.before(element("div", { className: "filter" }, element("label", {}, name, input), " ", told, " ", hint));
  }
  if (short) {
    more = element("button", { type: "button", className: "more", onclick: function () { short = !short; show(); } });
    more.setAttribute("aria-controls", table.id);
    box.after(more);
  }
  show();
});

// Folded parts would be missing on paper.
addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not([open])").forEach(function (fold) { fold.open = true; fold.dataset.print = ""; });
});
addEventListener("afterprint", function () {
  document.querySelectorAll("details[data-print]").forEach(function (fold) { fold.open = false; delete fold.dataset.print; });
});
