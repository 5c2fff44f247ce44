// The one chart of the playground: history, forecast bands, held-out truth, anomalies.

import { CHART, colour, faded, layout, token } from "./app.js";

const SHOWN_STEPS = 8; // horizons of history that are in view at first
const LEAST_SHOWN = 60;

const bare = (stamp) => stamp.replace(/Z$/, ""); // the library would move a zone's time to its own

function axisOf(series, target) {
  const rows = target.length;
  return series.timestamps.length === rows ? series.timestamps.map(bare) : target.map((_, i) => i + 1);
}

function ahead(forecast, x) {
  if (forecast.timestamps) return forecast.timestamps.map(bare);
  if (typeof x[0] === "number") return forecast.mean.map((_, i) => forecast.cutoff + i + 1);
  const known = x.slice(forecast.cutoff, forecast.cutoff + forecast.mean.length);
  return known.length === forecast.mean.length ? known : forecast.mean.map((_, i) => forecast.cutoff + i + 1);
}

function bands(forecast, x, tone, group) {
  const levels = forecast.quantiles;
  const traces = [];
  for (let i = 0; i < Math.floor(levels.length / 2); i += 1) {
    const [low, high] = [levels[i], levels[levels.length - 1 - i]];
    const common = { x, mode: "lines", line: { width: 0 }, legendgroup: group, showlegend: false, type: "scatter" };
    traces.push({ ...common, y: low.values.map((row) => row[0]), name: `${low.level}` });
    traces.push({
      ...common,
      y: high.values.map((row) => row[0]),
      name: `${high.level}`,
      fill: "tonexty",
      fillcolor: faded(tone, 0.16),
    });
  }
  return traces;
}

/** Draw one series with what the models say of it: results are [{name, forecast}]. */
export function draw(place, series, results) {
  const target = series.target.map((row) => row[0]);
  const x = axisOf(series, target);
  const forecasts = results.filter((r) => r.forecast?.mean);
  const cut = forecasts.length ? Math.min(...forecasts.map((r) => r.forecast.cutoff)) : target.length;
  const line = { color: token("ink"), width: 1.4 };
  const traces = [{ x: x.slice(0, cut), y: target.slice(0, cut), name: "History", mode: "lines", line, type: "scatter" }];
  if (cut < target.length) {
    const from = Math.max(0, cut - 1);
    traces.push({ x: x.slice(from), y: target.slice(from), name: "Held-out truth", mode: "lines", line: { ...line, dash: "dot" }, type: "scatter" });
  }
  results.forEach(({ name, forecast }, i) => {
    if (!forecast) return;
    const tone = colour(i);
    if (forecast.mean) {
      const along = ahead(forecast, x);
      traces.push(...bands(forecast, along, tone, name));
      traces.push({ x: along, y: forecast.mean.map((row) => row[0]), name, legendgroup: name, mode: "lines", line: { color: tone, width: 2.2 }, type: "scatter" });
    } else if (forecast.anomalies) {
      const found = forecast.anomalies.filter((a) => a.channel === 0);
      traces.push({
        x: found.map((a) => x[a.index]),
        y: found.map((a) => a.value),
        name: `${name}: ${found.length} ${found.length === 1 ? "anomaly" : "anomalies"}`,
        mode: "markers",
        type: "scatter",
        marker: { color: i ? tone : token("bad"), size: 9, symbol: i ? "diamond-open" : "circle-open", line: { width: 2 } },
        text: found.map((a) => `expected ${a.expected.toPrecision(4)}, z ${a.z_score.toFixed(1)}`),
        hovertemplate: "%{y} (%{text})",
      });
    }
  });
  const from = visibleFrom(target.length, forecasts);
  const last = forecasts.flatMap((r) => ahead(r.forecast, x)).reduce((a, b) => (b > a ? b : a), x[x.length - 1]);
  const range = from > 0 ? { range: [x[from], last] } : {};
  const shapes = forecasts.length
    ? [{ type: "line", xref: "x", yref: "paper", x0: x[cut - 1], x1: x[cut - 1], y0: 0, y1: 1, line: { color: token("soft"), width: 1, dash: "dot" } }]
    : [];
  Plotly.react(place, traces, layout({ xaxis: range, shapes }), CHART);
}

function visibleFrom(rows, forecasts) {
  if (!forecasts.length) return 0;
  const steps = Math.max(...forecasts.map((r) => r.forecast.mean.length));
  const wanted = Math.max(LEAST_SHOWN, SHOWN_STEPS * steps);
  return rows > 2 * wanted ? rows - wanted : 0;
}
