// Draws a page's charts with Plotly, in the colours of the page. Until then, and without it, the server's drawing stays.
"use strict";

// A figure names colours of the look ("$water"); what they are is asked of the style sheet, light or dark.
function painted(value, look, name = "") {
  if (Array.isArray(value)) return value.map((one) => painted(one, look, name));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one, look, key)]));
  return typeof value === "string" && name.endsWith("color") && value[0] === "$" ? look(value.slice(1)) : value;
}

function draw(chart) {
  const probe = chart.appendChild(document.createElement("i"));
  const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  const figure = painted(JSON.parse(chart.dataset.chart), colour);
  probe.remove();
  figure.layout.font.family = getComputedStyle(document.body).fontFamily;
  const place = chart.querySelector(".plot");
  if (!place.classList.contains("js-plotly-plot")) place.replaceChildren();
  return Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
}

function drawAll() { for (const chart of document.querySelectorAll("[data-chart]")) draw(chart); }

if (window.Plotly) {
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("refreshed", drawAll);
  new MutationObserver(drawAll).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
}
