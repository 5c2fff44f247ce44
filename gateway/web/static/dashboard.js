// What the gateway did and does: the ledger over a range, and its state now.

import { call, CHART, colour, element, faded, layout, Problem, replace, shown, token } from "./app.js";
import { signedIn, signOut } from "./session.js";

// label, seconds, width of a bar in seconds
const RANGES = [
  ["15 min", 900, 15],
  ["1 h", 3600, 60],
  ["24 h", 86400, 1800],
  ["7 d", 7 * 86400, 4 * 3600],
  ["30 d", 30 * 86400, 86400],
];
const REFRESH_MS = 5000;
const MOST_GROUPS = 6; // drawn apart; the rest together
const ABOVE = { legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 48, r: 12, t: 40, b: 32 } };
const $ = (id) => document.getElementById(id);

const state = { range: 1, timer: 0, busy: false, seen: null, admin: true };

// -- asking --

async function ask(path) {
  return (await call("GET", path)).body;
}

async function everything() {
  const [, seconds, width] = RANGES[state.range];
  const now = Date.now() / 1000;
  const end = Math.ceil(now / width) * width;
  const span = `from=${end - seconds}&to=${end}`;
  const base = state.admin ? "/api/usage" : "/v1/usage";
  const groups = ["model", "endpoint", "code", ...(state.admin ? ["key"] : [])];
  const [time, tokens, ...grouped] = await Promise.all([
    ask(`${base}?${span}&interval=${width}s&group_by=code`),
    ask(`${base}?${span}&interval=${width}s&group_by=model`),
    ...groups.map((g) => ask(`${base}?${span}&group_by=${g}`)),
  ]);
  const plain = await ask(`${base}?${span}&interval=${width}s`);
  const [slowest, failed] = state.admin
    ? await Promise.all(["order=slowest", "order=newest&failed=true"].map((o) => ask(`/api/usage/requests?${span}&${o}&limit=25`)))
    : [null, null];
  const [status, jobs, counts] = await Promise.all([ask("/api/system/status"), ask("/v1/jobs?limit=15").catch(reasonOnly), metrics()]);
  return { span, start: end - seconds, end, width, time, tokens, plain, by: Object.fromEntries(groups.map((g, i) => [g, grouped[i]])), slowest, failed, status, jobs, counts };
}

function reasonOnly(error) {
  if (!(error instanceof Problem)) throw error;
  return { data: [], reason: error.message };
}

/** Series and batches since the start, by model, from what Prometheus reads. */
async function metrics() {
  const text = await (await fetch("/metrics")).text();
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^gateway_batch_series_(sum|count)\{model="([^"]*)"\} (.+)$/.exec(line);
    if (match) (found[match[2]] ??= {})[match[1]] = Number(match[3]);
  }
  return found;
}

// -- refreshing --

async function refresh() {
  if (state.busy) return;
  state.busy = true;
  try {
    state.seen = await everything();
    $("failure").hidden = true;
    show();
    $("as-of").textContent = `As of ${new Date().toLocaleTimeString()}`;
    document.body.dataset.shown = "yes";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401 || error.status === 403) await enter();
    else {
      $("failure").textContent = `${error.message} The figures below are older.`;
      $("failure").hidden = false;
    }
  } finally {
    state.busy = false;
  }
}

function again() {
  clearInterval(state.timer);
  state.timer = $("live").checked ? setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MS) : 0;
}

// -- showing --

function show() {
  const { time, plain, seen } = { ...state.seen, seen: state.seen };
  tiles(seen);
  const none = plain.totals.requests === 0;
  $("nothing").hidden = !none;
  $("charts").hidden = $("groups").hidden = none;
  if (!none) {
    stacked("requests", time, "code", (row) => row.requests, codeColour);
    percentiles("latency", [["p50", 0], ["p95", 1], ["p99", 2]].map(([p, i]) => [p, (row) => row.latency_ms[p], colour(i)]));
    percentiles("split", [["waiting p50", (r) => r.queue_ms.p50, faded(colour(1), 0.55)], ["waiting p95", (r) => r.queue_ms.p95, colour(1)], ["computing p50", (r) => r.compute_ms.p50, faded(colour(2), 0.55)], ["computing p95", (r) => r.compute_ms.p95, colour(2)]]);
    stacked("tokens", seen.tokens, "model", (row) => row.total_tokens, (_, i) => colour(i));
    groupTable("by-model", seen.by.model, "model", (r) => r.model || "no model", "Model");
    groupTable("by-endpoint", seen.by.endpoint, "endpoint", (r) => r.endpoint, "Endpoint");
    groupTable("by-code", seen.by.code, "code", (r) => r.code, "Outcome");
    if (seen.by.key) groupTable("by-key", seen.by.key, "key", (r) => short(r.key_name || r.key), "Key");
  }
  $("by-key").parentElement.hidden = !seen.by.key;
  requestTable("slowest", seen.slowest);
  requestTable("failed", seen.failed);
  nowTables(seen);
  $("csv").href = `${state.admin ? "/api/usage" : "/v1/usage"}?${seen.span}&interval=${seen.width}s&group_by=model,code&format=csv`;
}

function tile(name, value, small, bad = false) {
  const list = element("dl", {}, element("dt", {}, name), element("dd", {}, value, small ? element("small", {}, small) : null));
  return element("div", { class: bad ? "card tile bad" : "card tile" }, list);
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10000 ? `${shown(value / 1000, 3)} s` : `${shown(value, 3)} ms`;
}

function tiles({ plain: { totals }, status, counts }) {
  const rate = totals.requests ? (100 * totals.errors) / totals.requests : 0;
  const batches = Object.values(counts).reduce((sum, c) => sum + c.count, 0);
  const series = Object.values(counts).reduce((sum, c) => sum + c.sum, 0);
  const busy = status.engine.workers.filter((w) => w.state === "busy").length;
  const alive = status.engine.workers.filter((w) => w.pid !== null).length;
  replace(
    $("tiles"),
    tile("Requests", totals.requests.toLocaleString("en"), `${totals.series.toLocaleString("en")} series`),
    tile("Errors", `${shown(rate, 3)} %`, `${totals.errors.toLocaleString("en")} requests`, rate >= 5),
    tile("Latency p50", milliseconds(totals.latency_ms.p50), `p95 ${milliseconds(totals.latency_ms.p95)}`),
    tile("Latency p99", milliseconds(totals.latency_ms.p99), `computing p50 ${milliseconds(totals.compute_ms.p50)}`),
    tile("Tokens", compact(totals.total_tokens), `${compact(totals.input_tokens)} in, ${compact(totals.output_tokens)} out`),
    tile("Waiting now", shown(status.engine.queued_series, 6), `${status.engine.in_flight} calls in flight`),
    tile("Batch size", batches ? shown(series / batches, 3) : "–", `${compact(batches)} batches since the start`),
    tile("Workers", `${alive}`, `${busy} busy; ${bytes(status.memory.gateway_bytes + status.memory.workers_bytes)}`),
  );
}

function compact(value) {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

function bytes(value) {
  return value === null || value === undefined ? "–" : `${Math.round(value / 1048576).toLocaleString("en")} MB`;
}

// -- charts --

/** The beginnings of all intervals of the range, as local times that the chart library reads. */
function starts() {
  const { start, end, width } = state.seen;
  return Array.from({ length: Math.round((end - start) / width) }, (_, i) => (start + i * width) * 1000);
}

function local(ms) {
  const d = new Date(ms - new Date(ms).getTimezoneOffset() * 60000);
  return d.toISOString().slice(0, 19);
}

function timeAxis() {
  const { start, end } = state.seen;
  return { range: [local(start * 1000), local(end * 1000)], type: "date" };
}

function codeColour(code, i) {
  return code === "OK" ? colour(0) : [token("bad"), "#d98e04", colour(3), colour(2), colour(4)][(i + 4) % 5];
}

function stacked(id, report, group, value, tone) {
  const totals = new Map();
  for (const row of report.data) totals.set(row[group] ?? "", (totals.get(row[group] ?? "") ?? 0) + value(row));
  const order = [...totals.entries()].sort((a, b) => b[1] - a[1]).map(([name]) => name).filter((name) => totals.get(name) > 0);
  const apart = order.slice(0, MOST_GROUPS);
  const times = starts();
  const place = new Map(times.map((t, i) => [t, i]));
  const heights = new Map([...apart, ...(order.length > MOST_GROUPS ? ["others"] : [])].map((name) => [name, times.map(() => 0)]));
  for (const row of report.data) {
    const name = row[group] ?? "";
    const bars = heights.get(apart.includes(name) ? name : "others");
    const at = place.get(Date.parse(row.start));
    if (bars && at !== undefined) bars[at] += value(row);
  }
  const traces = [...heights].map(([name, y], i) => ({ type: "bar", name: name || "no model", x: times.map(local), y, marker: { color: tone(name, i) } }));
  Plotly.react(id, traces, layout({ ...ABOVE, barmode: "stack", bargap: 0.08, xaxis: timeAxis(), yaxis: { rangemode: "tozero" } }), CHART);
}

function percentiles(id, lines) {
  const times = starts();
  const rows = new Map(state.seen.plain.data.map((r) => [Date.parse(r.start), r]));
  const traces = lines.map(([name, value, tone]) => ({
    type: "scatter",
    mode: "lines+markers",
    connectgaps: false,
    name,
    x: times.map(local),
    y: times.map((t) => (rows.has(t) ? value(rows.get(t)) : null)),
    line: { color: tone, width: 1.6 },
    marker: { size: 3.5, color: tone },
  }));
  Plotly.react(id, traces, layout({ ...ABOVE, xaxis: timeAxis(), yaxis: { rangemode: "tozero", ticksuffix: " ms" } }), CHART);
}

// -- tables --

function table(place, heads, rows, empty) {
  if (!rows.length) return replace($(place), element("p", { class: "hint" }, empty));
  const head = element("tr", {}, ...heads.map((h, i) => element("th", { scope: "col", class: i ? "" : "text" }, h)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((c) => (c instanceof HTMLTableCellElement ? c : element("td", {}, c)))));
  return replace($(place), element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function groupTable(place, report, group, name, title) {
  const most = Math.max(1, ...report.data.map((r) => r.requests));
  const rows = report.data.map((r) => {
    const bar = element("span", { class: "share", "aria-hidden": "true" });
    bar.style.width = `${(3 * r.requests) / most}rem`;
    return [element("td", {}, name(r), bar), r.requests.toLocaleString("en"), r.errors.toLocaleString("en"), milliseconds(r.latency_ms.p50), milliseconds(r.latency_ms.p95), compact(r.total_tokens)];
  });
  table(place, [title, "Requests", "Errors", "p50", "p95", "Tokens"], rows, "Nothing yet.");
}

function requestTable(place, list) {
  $(place).parentElement.hidden = !list;
  if (!list) return;
  const rows = list.data.map((r) => {
    const copy = element("button", { type: "button", class: "quiet", title: `Copy ${r.request_id}`, onclick: () => navigator.clipboard?.writeText(r.request_id) }, r.request_id.length > 24 ? `${r.request_id.slice(0, 22)}…` : r.request_id);
    return [new Date(r.time).toLocaleTimeString(), element("td", { class: "id" }, copy), r.endpoint, r.model || "–", short(r.key_name || r.key), r.code === "OK" ? String(r.status) : `${r.status} ${r.code}`, milliseconds(r.latency_ms), milliseconds(r.queue_ms), milliseconds(r.compute_ms)];
  });
  table(place, ["Time", "Request id", "Endpoint", "Model", "Key", "Outcome", "Latency", "Waited", "Computed"], rows, "None in this range.");
}

function short(name) {
  return name.length > 32 ? `${name.slice(0, 30)}…` : name;
}

function standing(word) {
  return element("span", { class: `state ${word}` }, word);
}

function nowTables({ status, jobs, counts }) {
  const workers = status.engine.workers.map((w) => [w.name, standing(w.state), w.device, w.pid === null ? "–" : String(w.pid), bytes(w.rss_bytes || null), String(w.restarts), w.models.length ? w.models.map((m) => m.split("/").pop()).join(", ") : "–"]);
  table("workers", ["Worker", "State", "Device", "Process", "Memory", "Restarts", "Models"], workers, "No workers.");
  const models = status.models
    .filter((m) => m.status !== "unavailable")
    .map((m) => {
      const batch = counts[m.id];
      return [m.id, standing(m.status), bytes(m.memory_bytes), batch?.count ? shown(batch.sum / batch.count, 3) : "–", batch?.count ? compact(batch.count) : "–", m.pinned ? "pinned" : ""];
    });
  table("models", ["Model", "State", "Memory", "Batch size", "Batches", ""], models, "No models.");
  const takers = status.job_workers.map((w) => [w.name, w.host, String(w.pid), `${w.busy} of ${w.slots}`, w.embedded ? "in the gateway" : "apart"]);
  table("job-workers", ["Worker", "Machine", "Process", "Busy", ""], takers, "None: jobs need Redis.");
  const listed = jobs.data.map((j) => [j.id.slice(0, 13), j.type, standing(j.status), `${j.progress.done.toLocaleString("en")} of ${j.progress.total.toLocaleString("en")}`, new Date(typeof j.created === "number" ? j.created * 1000 : j.created).toLocaleTimeString()]);
  table("jobs", ["Job", "Type", "State", "Done", "Created"], listed, jobs.reason || "No jobs yet.");
}

// -- wiring --

async function enter() {
  const session = await signedIn({ admin: true });
  state.admin = session.admin || session.auth_type === "anonymous";
  $("sign-out").hidden = session.auth_type !== "session";
  await new Promise((next) => { setTimeout(next, 0); });
}

function ranges() {
  replace(
    $("ranges"),
    ...RANGES.map(([name], i) => element("button", { type: "button", "aria-pressed": String(i === state.range), onclick: () => { state.range = i; ranges(); refresh(); } }, name)),
  );
}

async function begin() {
  ranges();
  $("live").addEventListener("change", () => { again(); if ($("live").checked) refresh(); });
  $("sign-out").addEventListener("click", signOut);
  document.addEventListener("themechange", () => { if (state.seen) show(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && $("live").checked) refresh(); });
  await enter();
  await refresh();
  again();
}

begin().catch((error) => {
  $("failure").textContent = error.message;
  $("failure").hidden = false;
});
