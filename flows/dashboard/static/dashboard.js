// Draw the figures that stand in the page as JSON; without this the tables are there.
"use strict";

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour("--ink"), edge: colour("--edge"), sheet: colour("--sheet") };
}

function dress(layout) {
  const { ink, edge, sheet } = theme();
  const axis = { gridcolor: edge, zerolinecolor: edge, linecolor: edge, automargin: true };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, size: 12 },
    hoverlabel: { bgcolor: sheet, bordercolor: edge, font: { color: ink } },
    margin: { l: 50, r: 12, t: 30, b: 36 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: edge, activecolor: ink },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

function drawAll() {
  for (const chart of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(chart.dataset.figure).textContent);
    Plotly.react(chart, figure.data, dress(figure.layout), { displayModeBar: "hover", displaylogo: false, responsive: true });
  }
}

if (window.Plotly) {
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
} else {
  for (const each of document.querySelectorAll("details")) each.open = true;
}
