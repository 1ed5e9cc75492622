/* Sorting, the table of cells, and copying a command. */
function order(a, b, up) {
  const [none, other] = [a === null || a === "", b === null || b === ""];
  if (none || other) return none - other; // what is missing stays last
  const both = typeof a === "number" && typeof b === "number";
  return (up ? 1 : -1) * (both ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
}

function sortable(table, sort) {
  table.querySelectorAll("thead button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.parentElement;
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("thead th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    sort(column, up);
  }));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" || text === "None" || text === "nan" ? null : isNaN(number) ? text : number;
  };
  sortable(table, (column, up) => {
    const rows = [...table.tBodies[0].rows];
    table.tBodies[0].append(...rows.sort((a, b) => order(value(a, column), value(b, column), up)));
  });
}

const PAGE = 50;
const all = document.getElementById("all");
const { rows, columns } = data.cells;
const command = columns.length - 1;
const text = rows.map((row) => row.slice(0, command).join(" ").toLowerCase());
let shown = rows.map((_, index) => index);
let count = PAGE;
const box = (id) => document.getElementById(id);

function figure(value) {
  if (value === null) return "–";
  if (typeof value !== "number") return value;
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return size >= 1e4 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
}

function fill() {
  const words = box("filter").value.toLowerCase().split(/\s+/);
  const [topic, status] = [box("topic").value, box("status").value];
  const found = shown.filter((i) => words.every((word) => text[i].includes(word))
    && (!status || rows[i][1] === status) && (!topic || rows[i][0].startsWith(`${topic}/`)));
  all.tBodies[0].replaceChildren(...found.slice(0, count).map((i) => {
    const line = document.createElement("tr");
    rows[i].forEach((value, column) => {
      const cell = line.insertCell();
      if (column < command) cell.textContent = figure(value);
      else if (value) {
        const button = Object.assign(document.createElement("button"), { className: "copy", type: "button", textContent: "copy" });
        button.dataset.copy = value;
        button.setAttribute("aria-label", `copy the command of ${rows[i][0]}`);
        cell.append(button, " ", Object.assign(document.createElement("code"), { textContent: value, title: value }));
      }
      if (["NOT equal", "failed", "timeout", "unmeasured"].includes(value)) cell.className = "bad";
    });
    return line;
  }));
  box("shown").textContent = `${Math.min(count, found.length).toLocaleString("en")} of ${found.length.toLocaleString("en")} cells`;
  box("more").hidden = found.length <= count;
}

sortable(all, (column, up) => {
  shown.sort((a, b) => order(rows[a][column], rows[b][column], up));
  fill();
});
for (const id of ["filter", "topic", "status"]) box(id).addEventListener("input", () => { count = PAGE; fill(); });
box("more").addEventListener("click", () => { count += 200; fill(); });
fill();

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch { // no clipboard from file:// or without permission: the old way
    const area = Object.assign(document.createElement("textarea"), { value: words });
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.addEventListener("click", async ({ target }) => {
  if (!target.matches?.("button.copy")) return;
  const done = await copy(target.dataset.copy);
  target.textContent = done ? "copied" : "press Ctrl-C";
  if (!done) getSelection().selectAllChildren(target.nextElementSibling);
  target.focus();
  setTimeout(() => { target.textContent = "copy"; }, 2000);
});
