"use strict";
// Draws the charts with the colors of the page's theme, again if the theme changes.
const theme = () => {
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const text = { labelColor: color("--soft"), titleColor: color("--ink"), labelFontSize: 12, titleFontSize: 12 };
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { ...text, gridColor: color("--line"), domainColor: color("--line"), tickColor: color("--line") },
    legend: { ...text, orient: "top", title: null, symbolStrokeWidth: 3, labelLimit: 400 },
    header: text, title: { color: color("--ink") }, rule: { color: color("--soft") }, text: { color: color("--ink") },
  };
};
const draw = () => Promise.all([...document.querySelectorAll("script[data-chart]")].map(source => {
  const options = { renderer: "svg", actions: false, config: theme(), tooltip: { theme: "custom" } };
  return vegaEmbed("#" + source.dataset.chart, JSON.parse(source.textContent), options);
}));
draw().then(() => { document.documentElement.dataset.drawn = "true"; });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));

// Sorts a table by the column whose title was pressed; numbers with the largest first.
const key = cell => cell.dataset.order === undefined ? cell.textContent : Number(cell.dataset.order);
document.querySelectorAll("thead button").forEach(button => button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], column = head.cellIndex;
  const rows = [...body.rows], isNumber = rows.some(row => row.cells[column].dataset.order !== undefined);
  const before = head.getAttribute("aria-sort");
  const order = before === "none" ? (isNumber ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((one, other) => {
    const a = key(one.cells[column]), b = key(other.cells[column]);
    return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  });
  head.parentElement.querySelectorAll("th").forEach(one => one.setAttribute("aria-sort", one === head ? order : "none"));
  body.append(...rows);
}));
