"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const grid = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
const axis = { gridcolor: grid, zerolinecolor: grid, automargin: true };
for (const box of document.querySelectorAll(".charts")) {
  const charts = figures[box.dataset.topic].map((figure) => {
    const chart = box.appendChild(document.createElement("div"));
    chart.className = "chart";
    return [chart, figure];
  });
  for (const [chart, figure] of charts) {
    Plotly.newPlot(chart, figure.data, {
      title: { text: figure.title, font: { size: 14 } }, height: 340, font: { color: ink },
      margin: { l: 50, r: 12, t: 40, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...axis, ...figure.xaxis }, yaxis: { ...axis, ...figure.yaxis },
      showlegend: figure.data[0]?.type !== "heatmap", legend: { font: { size: 9 }, orientation: "h", y: -0.2 },
    }, { responsive: true, displayModeBar: false });
  }
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.parentElement;
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
      return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || value(a).localeCompare(value(b)) : x - y;
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * compare(a, b));
    table.tBodies[0].append(...rows);
  }));
}
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const row of document.getElementById("all").tBodies[0].rows)
    row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
});
