// The form of the playground, from what is typed to what is drawn.

import { call, colour, element, Problem, replace, shown } from "./app.js";
import { callsOf, drawn, failureOf, fromJson, inputsOf, noticesOf } from "./playground-calls.js";
import { draw } from "./playground-charts.js";
import { LANGUAGES, pretty } from "./playground-code.js";
import { signedIn } from "./session.js";

const SAMPLES = [
  { file: "air_passengers.csv", title: "Air passengers, monthly", horizon: 12, holdout: true },
  { file: "retail_sales.csv", title: "Retail sales, monthly", horizon: 24 },
  { file: "seattle_weather.csv", title: "Seattle weather, daily, several columns", horizon: 14 },
  { file: "electricity_prices.csv", title: "Electricity prices, hourly, two markets with covariates", horizon: 24, covariates: ["load_forecast", "generation_forecast"] },
  { file: "request_count.csv", title: "Requests of a server, hourly, with anomalies", task: "anomalies", horizon: 24 },
];
const HINTS = {
  forecast: "Each chosen model forecasts; several are drawn side by side.",
  ensemble: "Candidates are tried on the held-out end, and the best are blended. Choose two or more, or none for all.",
  anomalies: "Every value is compared with what its past led to expect, one step ahead.",
};
const FIELDS = { prediction_length: "horizon", frequency: "frequency", quantile_levels: "quantiles", sensitivity: "sensitivity" };
const PATIENCE_MS = 60000; // for models that load
const $ = (id) => document.getElementById(id);

const state = { table: null, inputs: null, task: "forecast", covariates: [], columns: {}, results: [], calls: [], language: "curl", reading: null, unread: null, running: null };

// -- faults --

function clearFaults() {
  for (const place of document.querySelectorAll(".fault")) place.textContent = "";
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  $("failure").hidden = true;
}

function faultAt(field, sentence) {
  if (field === "target" && $("columns").hidden) return faultAt("data", sentence);
  const place = $(`${field}-fault`);
  if (!place) return false;
  const folded = place.closest("details");
  if (folded) folded.open = true;
  place.textContent = place.textContent ? `${place.textContent} ${sentence}` : sentence;
  $(field)?.setAttribute("aria-invalid", "true");
  return true;
}

function fieldOf(loc) {
  const [, top, name] = loc;
  if (top === "parameters") return FIELDS[name];
  if (top === "inputs") return "data";
  return { model: "model", models: "model", data: "data", target: "target", frequency: "frequency", horizon: "horizon" }[top];
}

function tell(problem) {
  const told = problem.detail.filter(({ loc, msg }) => {
    const field = fieldOf(loc);
    const where = loc[1] === "inputs" && loc.length > 2 ? `Series ${Number(loc[2]) + 1}${loc[3] ? `, ${loc.slice(3).join(" ")}` : ""}: ` : "";
    return field && faultAt(field, `${where}${msg}`);
  });
  if (!told.length) {
    $("failure").textContent = problem.message;
    $("failure").hidden = false;
  }
  document.querySelector("[aria-invalid='true']")?.focus();
}

// -- data --

function query() {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(state.columns)) if (value) asked.append(name, value);
  for (const name of state.covariates) asked.append("covariate", name);
  if ($("frequency").value.trim()) asked.set("frequency", $("frequency").value.trim());
  asked.set("horizon", $("horizon").value);
  if (state.repair) asked.set("repair", "true");
  return asked;
}

async function read() {
  state.reading?.abort();
  state.table = state.inputs = state.unread = null;
  const text = $("data").value.trim();
  clearFaults();
  $("data-found").textContent = "";
  $("problems").hidden = $("columns").hidden = $("which").hidden = true;
  if (!text) return;
  let csv = listed(text) ?? text;
  if (/^[[{]/.test(text)) {
    try {
      const found = fromJson(text);
      if (found.inputs) return taken(found);
      csv = found.csv;
    } catch (error) {
      faultAt("data", error.message);
      return;
    }
  }
  const attempt = (state.reading = new AbortController());
  try {
    const { body } = await call("POST", `/playground/read?${query()}`, csv, { signal: attempt.signal, type: "text/csv" });
    state.table = body;
    describe(body);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    state.unread = error;
    tell(error);
  } finally {
    if (state.reading === attempt) state.reading = null;
    document.body.dataset.read = state.table || state.inputs ? "yes" : "no";
  }
}

/** A list of numbers without a header as a table; null for anything else. */
function listed(text) {
  const cells = text.split(/[\s,;]+/).filter(Boolean);
  const lines = text.split("\n").length;
  if (!cells.every((cell) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(cell))) return null;
  return lines === 1 || cells.length <= lines ? `value\n${cells.join("\n")}` : null;
}

/** The inputs of a pasted request, as they are. */
function taken({ inputs, parameters, model }) {
  state.inputs = inputs;
  if (parameters.prediction_length) $("horizon").value = parameters.prediction_length;
  if (parameters.frequency) $("frequency").value = parameters.frequency;
  if (parameters.quantile_levels) $("quantiles").value = parameters.quantile_levels.join(", ");
  const box = model && [...document.querySelectorAll("#models input")].find((i) => i.value === model);
  if (box) box.checked = true;
  $("data-found").textContent = `${inputs.length} series of a request`;
  choices($("series"), inputs.map((one, i) => [String(i), String(one?.metadata?.item_id ?? `Series ${i + 1}`)]), "0");
  $("which").hidden = inputs.length < 2;
  document.body.dataset.read = "yes";
  show();
}

function describe(table) {
  const rows = table.series.reduce((sum, s) => sum + s.target.length, 0);
  const parts = [
    `${table.series.length} series, ${rows} rows`,
    table.time ? `time ${table.time}` : "no times",
    `forecast ${table.targets.join(", ")}`,
    table.frequency ? `frequency ${table.frequency}` : null,
    table.rows_ahead ? `${table.rows_ahead} rows ahead` : null,
  ];
  $("data-found").textContent = parts.filter(Boolean).join(" · ");
  $("frequency").placeholder = table.frequency ? `${table.frequency} (found)` : "D, h, 15min, MS";
  const names = table.columns.map((n) => [n, n]);
  choices($("time"), [["", "none"], ...names], table.time ?? "");
  choices($("id"), [["", "none: one series"], ...names], table.id ?? "");
  choices($("target"), table.numeric.map((n) => [n, n]), table.targets[0]);
  const rest = table.numeric.filter((n) => ![table.time, table.id, ...table.targets].includes(n));
  replace($("covariate-list"), ...rest.map((name) => choice("checkbox", name, name, state.covariates.includes(name), covariatesChanged)));
  $("covariates").hidden = rest.length === 0;
  $("covariates-hint").textContent = table.rows_ahead ? `Known ${table.rows_ahead} steps ahead.` : "Known over the past only. Rows without a target at the end tell the future.";
  choices($("series"), table.series.map((s, i) => [String(i), s.id || "the series"]), "0");
  $("columns").hidden = false;
  $("which").hidden = table.series.length < 2;
  if (table.problems.length) {
    const mend = element("button", { type: "button", onclick: () => { state.repair = true; read(); } }, "Mend them");
    const list = element("ul", {}, ...table.problems.map((p) => element("li", {}, p.repair ? `${p.sentence} (mending ${p.repair})` : p.sentence)));
    replace($("problems"), list, state.repair ? element("span", {}, "Mended for this forecast.") : mend);
    $("problems").hidden = false;
  }
  show();
}

function choices(select, options, value) {
  replace(select, ...options.map(([v, text]) => element("option", { value: v, selected: v === value }, text)));
}

function choice(type, value, text, checked, changed, small) {
  const input = element("input", { type, value, checked, name: "choice", onchange: changed });
  input.checked = checked;
  return element("label", {}, input, element("span", {}, text, small ? element("small", {}, small) : null));
}

function covariatesChanged() {
  state.covariates = [...document.querySelectorAll("#covariate-list input:checked")].map((i) => i.value);
  read();
}

async function loadSample(sample) {
  const answer = await fetch(`/samples/${sample.file}`);
  fresh();
  state.covariates = sample.covariates ?? [];
  $("horizon").value = sample.horizon;
  $("holdout").checked = Boolean(sample.holdout);
  $("data").value = await answer.text();
  setTask(sample.task ?? "forecast");
  await read();
}

/** Other data: what was said of the columns of the last no longer holds. */
function fresh() {
  state.columns = {};
  state.covariates = [];
  state.repair = false;
  state.results = [];
  $("frequency").value = "";
}

// -- models --

async function loadModels() {
  const { body } = await call("GET", "/v1/models");
  const usable = body.data.filter((m) => m.status !== "unavailable" && !m.required_channels.length);
  const elsewhere = body.data.length - usable.length;
  usable.sort((a, b) => b.aliases.includes("default") - a.aliases.includes("default"));
  replace($("models"), ...usable.map((m) => choice("checkbox", m.id, m.title, m === usable[0], null, m.id)));
  $("models-hint").textContent = elsewhere ? `${usable.length} are on this machine; ${elsewhere} more need weights or other data.` : "";
}

function setTask(task) {
  state.task = task;
  for (const button of document.querySelectorAll("[data-task]")) button.setAttribute("aria-pressed", String(button.dataset.task === task));
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(task);
  $("task-hint").textContent = HINTS[task];
  $("run").textContent = { forecast: "Forecast", ensemble: "Find the best blend", anomalies: "Find anomalies" }[task];
}

// -- running --

function filled() {
  const quantiles = $("quantiles").value.split(",").map((q) => q.trim()).filter(Boolean).map(Number);
  const form = {
    task: state.task,
    horizon: Number($("horizon").value),
    quantiles,
    frequency: $("frequency").value.trim() || state.table?.frequency || "",
    weighting: $("weighting").value,
    sensitivity: Number($("sensitivity").value),
    holdout: $("holdout").checked,
    models: [...document.querySelectorAll("#models input:checked")].map((i) => i.value),
    inputs: state.inputs ?? (state.table ? inputsOf(state.table) : null),
  };
  let sound = true;
  const fault = (field, sentence) => { faultAt(field, sentence); sound = false; };
  if (!form.inputs && state.unread) { tell(state.unread); sound = false; } else if (!form.inputs) fault("data", "Choose a sample, paste a table or drop a file first.");
  if (state.task !== "anomalies" && !(Number.isInteger(form.horizon) && form.horizon >= 1)) fault("horizon", "A whole number of steps, at least 1.");
  if (state.task !== "anomalies" && quantiles.some((q) => !(q > 0 && q < 1))) fault("quantiles", "Levels between 0 and 1, such as 0.1, 0.5, 0.9.");
  if (state.task !== "ensemble" && !form.models.length) fault("model", "Choose at least one model.");
  if (state.table?.problems.length && !state.repair) fault("data", "Mend the problems of the data first.");
  return sound ? form : null;
}

async function run(event) {
  event.preventDefault();
  if (state.reading) await read();
  clearFaults();
  const form = filled();
  if (!form) {
    document.querySelector("[aria-invalid='true']")?.focus();
    return;
  }
  state.running?.abort();
  const attempt = (state.running = new AbortController());
  const button = $("run");
  const word = button.textContent;
  replace(button, spinner(), " Running…");
  $("result").setAttribute("aria-busy", "true");
  document.body.dataset.ran = "no";
  state.calls = callsOf(form);
  state.results = await Promise.all(state.calls.map((one) => answered(one, attempt.signal)));
  button.textContent = word;
  $("result").removeAttribute("aria-busy");
  if (attempt.signal.aborted) return;
  state.running = null;
  const failed = state.results.filter((r) => r.problem);
  if (failed.length === state.results.length) tell(failed[0].problem);
  else for (const one of failed) faultAt("model", `${one.call.model}: ${one.problem.message}`);
  show();
  document.body.dataset.ran = "yes";
}

function spinner() {
  return element("span", { class: "spinner", "aria-hidden": "true" });
}

/** The answer to a call, or its problem; a model that is being loaded is waited for. */
async function answered(one, signal) {
  const patience = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return { call: one, answer: (await call("POST", one.path, one.body, { signal })).body };
    } catch (error) {
      const again = error instanceof Problem && error.status === 503 && error.retryAfterS !== null;
      if (again && performance.now() < patience) {
        replace($("run"), spinner(), ` ${error.message}`); // a model that is being loaded
        await new Promise((wake) => { setTimeout(wake, 1000 * error.retryAfterS); });
      } else if (error.name === "AbortError" || error instanceof Problem) {
        return { call: one, problem: error };
      } else {
        throw error;
      }
    }
  }
}

// -- showing --

function seriesShown() {
  const index = Number($("series").value || 0);
  if (state.table) return { index, series: state.table.series[index] };
  const input = state.inputs?.[index];
  const target = Array.isArray(input?.target) ? input.target.map((row) => (Array.isArray(row) ? row : [row])) : [];
  return { index, series: { timestamps: [], target } };
}

function show() {
  const { index, series } = seriesShown();
  if (!series?.target.length) return;
  $("nothing").hidden = true;
  const results = state.results.filter((r) => r.answer);
  draw($("chart"), series, results.map((r) => ({ name: r.call.model, forecast: drawn(r.call, r.answer, index, series.target.length) })));
  const failures = results.map((r) => [r.call.model, failureOf(r.call, r.answer, index)]).filter(([, why]) => why);
  $("failure").hidden = $("failure").hidden && failures.length === 0;
  if (failures.length) $("failure").textContent = failures.map(([model, why]) => `${model}: ${why}`).join(" ");
  tables(results, index);
  const notices = results.flatMap((r) => noticesOf(r.call, r.answer, index).map((n) => (results.length > 1 ? `${r.call.model}: ${n}` : n)));
  replace($("notices"), ...notices.map((n) => element("li", {}, n)));
  $("notices-card").hidden = notices.length === 0;
  $("code-card").hidden = state.results.length === 0;
  showCode();
}

function row(cells, attributes = {}) {
  return element("tr", attributes, ...cells.map((c) => (c instanceof Node ? element("td", {}, c) : element("td", {}, c))));
}

function named(name, i) {
  const dot = element("span", { class: "dot", "aria-hidden": "true" });
  dot.style.background = colour(i);
  return element("span", { class: "name" }, dot, name);
}

function tables(results, index) {
  $("table-card").hidden = results.length === 0;
  if (!results.length) return;
  const table = { forecast: forecastTable, ensemble: ensembleTable, anomalies: anomalyTable }[taskOf(results[0].call.path)];
  const [title, heads, rows] = table(results, index);
  $("table-title").textContent = title;
  const head = element("tr", {}, ...heads.map((h) => element("th", { scope: "col" }, h)));
  replace($("table"), element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function taskOf(path) {
  return path === "/v1/forecast/ensemble" ? "ensemble" : path === "/v1/detect-anomalies" ? "anomalies" : "forecast";
}

function forecastTable(results, index) {
  const scored = results[0].call.path === "/v1/backtest";
  const metrics = scored ? ["mae", "smape", "mase", "wql", "coverage"] : [];
  const rows = results.map((r, i) => {
    const scores = r.answer.outputs?.[index]?.metrics ?? {};
    return row([named(r.call.model, i), ...metrics.map((m) => shown(scores[m])), `${shown(r.answer.latency_ms, 3)} ms`, shown(r.answer.usage.total_tokens, 6)]);
  });
  const heads = { mae: "MAE", smape: "sMAPE %", mase: "MASE", wql: "WQL", coverage: "Coverage" };
  return [scored ? "Against the held-out end" : "Forecasts", ["Model", ...metrics.map((m) => heads[m]), "Latency", "Tokens"], rows];
}

function ensembleTable(results) {
  const { ranked_results: ranked, scoring_metric: metric } = results[0].answer;
  const titles = { smape: "sMAPE %", mase: "MASE", crps: "CRPS" };
  const others = Object.keys(titles).filter((name) => name !== metric);
  const rows = ranked.map((r) => {
    const weight = r.weight ? `${(100 * r.weight).toFixed(0)} %` : "–";
    const attributes = r.weight ? {} : { class: "out" };
    const scores = others.map((m) => shown(r.metrics?.[m]));
    return row([`${r.rank}. ${r.model}`, weight, shown(r.score), ...scores, r.latency_ms ? `${shown(r.latency_ms, 3)} ms` : "–", r.error ?? r.status], attributes);
  });
  return ["Candidates", ["Model", "Weight", titles[metric], ...others.map((m) => titles[m]), "Latency", "Outcome"], rows];
}

function anomalyTable(results, index) {
  const rows = results.map((r, i) => {
    const output = r.answer.outputs[index] ?? {};
    const found = output.anomalies ?? [];
    const worst = found.reduce((most, a) => (Math.abs(a.z_score) > Math.abs(most?.z_score ?? 0) ? a : most), null);
    const scored = (output.is_anomaly ?? []).flat().filter((v) => v !== null).length;
    return row([named(r.call.model, i), shown(found.length, 6), shown(scored, 7), worst ? worst.timestamp ?? `row ${worst.index + 1}` : "–", worst ? shown(worst.z_score, 3) : "–", `${shown(r.answer.latency_ms, 3)} ms`]);
  });
  return ["Anomalies", ["Model", "Found", "Scored", "Strongest", "z", "Latency"], rows];
}

function showCode() {
  const first = state.results[0];
  if (!first) return;
  const url = location.origin + first.call.path;
  const texts = Object.fromEntries(Object.entries(LANGUAGES).map(([name, write]) => [name, () => write(url, first.call.body)]));
  texts.Response = () => (first.answer ? pretty(first.answer) : first.problem.message);
  replace($("languages"), ...Object.keys(texts).map((name) => element("button", { type: "button", "aria-pressed": String(name === state.language), onclick: () => { state.language = name; showCode(); } }, name)));
  $("code").textContent = texts[state.language]();
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("code")); // an address without TLS has no clipboard
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

// -- wiring --

function later(action, ms) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(action, ms); };
}

async function begin() {
  choices($("sample"), [["", "your own"], ...SAMPLES.map((s, i) => [String(i), s.title])], "0");
  $("sample").addEventListener("change", () => { const s = SAMPLES[$("sample").value]; if (s) loadSample(s); });
  $("data").addEventListener("input", later(() => { $("sample").value = ""; fresh(); read(); }, 300));
  $("frequency").addEventListener("change", () => { if (!state.inputs) read(); });
  $("horizon").addEventListener("change", () => { if (state.covariates.length && !state.inputs) read(); });
  for (const name of ["time", "id", "target"]) $(name).addEventListener("change", () => { state.columns[name] = $(name).value; read(); });
  $("series").addEventListener("change", show);
  $("sensitivity").addEventListener("input", () => { $("sensitivity-shown").textContent = $("sensitivity").value; });
  for (const button of document.querySelectorAll("[data-task]")) button.addEventListener("click", () => setTask(button.dataset.task));
  $("form").addEventListener("submit", run);
  $("copy").addEventListener("click", copy);
  document.addEventListener("themechange", show);
  const take = async (file) => { if (file) { $("sample").value = ""; fresh(); $("data").value = await file.text(); await read(); } };
  $("file").addEventListener("change", () => take($("file").files[0]));
  const drop = document.querySelector(".controls");
  drop.addEventListener("dragover", (e) => { e.preventDefault(); $("drop").classList.add("over"); });
  drop.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  drop.addEventListener("drop", (e) => { e.preventDefault(); $("drop").classList.remove("over"); take(e.dataTransfer.files[0]); });
  setTask("forecast");
  await signedIn();
  loadModels().catch((error) => { $("model-fault").textContent = error.message; });
  loadSample(SAMPLES[0]);
}

begin().catch((error) => {
  $("failure").textContent = error.message;
  $("failure").hidden = false;
});
