// What the page adds where scripts run: tables that sort, filter and download themselves.
//
// The page is complete without this script, which is why it makes all of its controls itself. It
// loads nothing and sends nothing. The content-security policy of the page lets no other script
// run: it names the digest of exactly this text, which is computed when the report is written.

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// ------------------------------------------------------------------------------------ tables

const MISSING = "–";
const collator = new Intl.Collator("en");

// The text of a cell on one line; an exponent, which only its height marks on the page, gets a sign.
function textOf(cell) {
  const copy = cell.cloneNode(true);
  for (const exponent of copy.querySelectorAll("sup")) exponent.prepend("^");
  return copy.textContent.trim().replace(/\s+/g, " ");
}

// The number that a text begins with, as the report writes numbers: "97.2 %", "−1.2 × 10^−45",
// "1,230", "3 of 12". It is NaN if there is none.
function numberOf(text) {
  const plain = text.replaceAll("−", "-").replaceAll(",", "").replace("∞", "Infinity");
  return parseFloat(plain.replace(/ ?× ?10\^/, "e"));
}

// Rows in the order of a column. What has no value, or none that is finite, comes last both ways.
function sorted(rows, column, isNumeric, direction) {
  const entries = rows.map((row) => {
    const text = textOf(row.cells[column]);
    return { row, value: isNumeric ? numberOf(text) : text };
  });
  const isKnown = ({ value }) => (isNumeric ? Number.isFinite(value) : value !== MISSING);
  const compare = isNumeric ? (a, b) => a - b : collator.compare;
  const known = entries.filter(isKnown).sort((a, b) => direction * compare(a.value, b.value));
  const unknown = entries.filter((entry) => !isKnown(entry));
  return [...known, ...unknown].map(({ row }) => row);
}

// Each click on a heading goes one step further: ascending, descending, the order of the report.
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

function makeSortable(table) {
  const body = table.tBodies[0];
  const inOrder = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const sort = () => {
      const order = NEXT[heading.ariaSort ?? "none"];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (order !== "none") heading.setAttribute("aria-sort", order);
      const isNumeric = heading.classList.contains("number");
      const direction = order === "ascending" ? 1 : -1;
      body.append(...(order === "none" ? inOrder : sorted(inOrder, column, isNumeric, direction)));
    };
    // A button has the keyboard's Enter and Space by itself.
    const button = make("button", { type: "button", onclick: sort }, ...heading.childNodes);
    heading.append(button);
  });
}

// A field that keeps the rows with all of its words, and the count of these rows.
function filterOf(table) {
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const count = make("output");
  const show = (words) => {
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    const all = rows.length.toLocaleString("en");
    count.textContent = `${shown.toLocaleString("en")} of ${all} rows`;
  };
  const field = make("input", { type: "search", spellcheck: false, autocomplete: "off" });
  field.oninput = () => show(field.value.toLowerCase().split(/\s+/));
  show([]);
  return [make("label", {}, "Rows that contain ", field), count];
}

// The cells as they are shown: sorted, without the rows that are filtered out.
function csvOf(table) {
  const rows = [table.tHead.rows[0], ...table.tBodies[0].rows].filter((row) => !row.hidden);
  const quoted = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => `${[...row.cells].map(textOf).map(quoted).join(",")}\n`).join("");
}

// The content of a link whose address is its own data, in base64.
function bytesOf(link) {
  const content = atob(link.href.slice(link.href.indexOf(",") + 1));
  return Uint8Array.from(content, (sign) => sign.charCodeAt(0));
}

function save(content, name) {
  const address = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // some browsers read it only later
}

// Of final results it is the file that the page links to, with all digits and all rows.
function downloadOf(table) {
  const link = document.querySelector(`a[data-table="${CSS.escape(table.id)}"]`);
  const onclick = () =>
    link ? save(bytesOf(link), link.download) : save(csvOf(table), `${table.id}.csv`);
  return make("button", { type: "button", onclick }, "Download as CSV");
}

for (const table of document.querySelectorAll(".table > table")) {
  const frame = table.parentElement;
  if (table.tBodies[0].rows.length > 1) makeSortable(table);
  const filter = frame.classList.contains("long") ? filterOf(table) : [];
  frame.before(make("div", { className: "controls" }, ...filter, downloadOf(table)));
}
