"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

function draw(figure) {
  const plot = figure.querySelector(".plot");
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const chosen = figure.querySelector("select")?.value ?? 0;
  const { data: traces, layout } = data.figures[figure.dataset.topic][figure.dataset.figure].choices[chosen];
  for (const trace of traces) {
    if (trace.ink) trace.line = { ...trace.line, color: colour("--quiet") };
    if (trace.ink && trace.marker) trace.marker = { ...trace.marker, color: colour("--ink") };
  }
  const heat = traces[0].type === "heatmap";
  const wide = plot.clientWidth >= 600;
  const columns = plot.clientWidth >= 450 ? 2 : 1;
  const rows = wide ? 0 : Math.ceil(traces.length / columns);
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
  plot.style.height = `${360 + (heat ? 0 : 20 * rows)}px`;
  const legend = wide ? { x: 1.02, y: 1 } : { orientation: "h", x: 0, y: -0.22, yanchor: "top" };
  Plotly.react(plot, traces, {
    margin: { l: 12, r: heat ? 0 : 12, t: 14, b: 12 }, autosize: true, hovermode: "closest",
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { align: "left" }, showlegend: !heat && traces.length > 1, legend: { ...legend, font: { size: 12 } },
    xaxis: { ...axis, ...layout.xaxis, ...(heat && { type: "category", showgrid: false }) },
    yaxis: { ...axis, ...layout.yaxis, ...(heat && { type: "category", showgrid: false, autorange: "reversed" }) },
  }, { responsive: true, displayModeBar: false });
}

const charts = [...document.querySelectorAll(".chart")];
const drawn = new Set();
const show = (chart) => { drawn.add(chart); draw(chart); };
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries)
    if (isIntersecting) { seen.unobserve(target); show(target); }
}, { rootMargin: "600px" });
for (const chart of charts) {
  seen.observe(chart);
  chart.querySelector("select")?.addEventListener("change", () => show(chart));
}
const again = () => drawn.forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
matchMedia("(max-width: 700px)").addEventListener("change", again);
addEventListener("beforeprint", () => charts.forEach(show));
