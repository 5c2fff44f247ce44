// The calls of the API that a form stands for, and what their answers come to.

const SHORTEST = 3;

/** Inputs of the contract from a table that was read. */
export function inputsOf(table) {
  return table.series.map((series) => ({
    target: series.target,
    ...(series.timestamps.length ? { start: series.timestamps[0] } : {}),
    ...(Object.keys(series.past_covariates).length ? { past_covariates: series.past_covariates } : {}),
    ...(Object.keys(series.future_covariates).length ? { future_covariates: series.future_covariates } : {}),
    ...(series.id ? { metadata: { item_id: series.id } } : {}),
  }));
}

/** What was pasted as JSON: a table (as CSV) or the inputs and parameters of a request. Throws with a sentence. */
export function fromJson(text) {
  const value = JSON.parse(text);
  if (Array.isArray(value) && value.length === 0) throw new Error("The list is empty.");
  if (Array.isArray(value) && value.every((v) => v === null || typeof v === "number")) {
    return { csv: `value\n${value.map((v) => v ?? "").join("\n")}` };
  }
  if (Array.isArray(value) && value.every(Array.isArray)) return { inputs: [{ target: value }], parameters: {} };
  if (Array.isArray(value) && value.every((v) => v && typeof v === "object")) {
    const columns = [...new Set(value.flatMap(Object.keys))];
    const cell = (v) => (v === null || v === undefined ? "" : `"${String(v).replaceAll('"', '""')}"`);
    return { csv: [columns.map(cell), ...value.map((row) => columns.map((c) => cell(row[c])))].join("\n") };
  }
  if (value && Array.isArray(value.inputs)) return { inputs: value.inputs, parameters: value.parameters ?? {}, model: value.model };
  if (value && Array.isArray(value.target)) return { inputs: [value], parameters: {} };
  throw new Error("This JSON is no list of numbers, no list of rows and no request with inputs.");
}

/** The calls to make: [{model, path, body}]. */
export function callsOf(form) {
  const parameters = {
    ...(form.task === "anomalies" ? { sensitivity: form.sensitivity } : { prediction_length: form.horizon }),
    ...(form.frequency ? { frequency: form.frequency } : {}),
    ...(form.task === "anomalies" ? {} : { quantile_levels: form.quantiles }),
  };
  const inputs = form.inputs;
  if (form.task === "ensemble") {
    const models = form.models.length > 1 ? { models: form.models } : {};
    const body = { ...models, inputs, parameters, weighting: form.weighting };
    return [{ model: "ensemble", path: "/v1/forecast/ensemble", body }];
  }
  return form.models.map((model) => {
    const body = { model, inputs, parameters };
    if (form.task === "anomalies") return { model, path: "/v1/detect-anomalies", body };
    if (form.holdout) return { model, path: "/v1/backtest", body };
    return { model, path: "/v1/forecast", body };
  });
}

/** One forecast of one series for the chart, or null where there is none: {cutoff, timestamps, mean, quantiles, actuals}. */
export function drawn(call, answer, index, rows) {
  const forecast = call.path === "/v1/forecast/ensemble" ? answer.ensemble_result : answer;
  const output = forecast.outputs?.[index];
  if (!output || output.status === "failed") return null;
  if (call.path === "/v1/detect-anomalies") return { anomalies: output.anomalies, from: output.scored_from };
  const made = call.path === "/v1/backtest" ? output.windows?.[0] : output;
  if (!made?.mean) return null;
  return {
    cutoff: made.cutoff ?? rows,
    timestamps: made.timestamps,
    mean: made.mean,
    quantiles: made.quantile_predictions ?? [],
    actuals: made.actuals,
  };
}

/** Why a series has no forecast in an answer that has others. */
export function failureOf(call, answer, index) {
  const forecast = call.path === "/v1/forecast/ensemble" ? answer.ensemble_result : answer;
  const output = forecast.outputs?.[index];
  return output?.status === "failed" ? output.error.error : "";
}

export function noticesOf(call, answer, index) {
  const forecast = call.path === "/v1/forecast/ensemble" ? answer.ensemble_result : answer;
  return forecast.outputs?.[index]?.notices ?? [];
}

/** The number of steps a series can spare: what it holds beyond the least that a forecast needs. */
export function spare(rows) {
  return Math.max(0, rows - SHORTEST);
}
