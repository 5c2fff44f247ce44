// What Gradio's JavaScript client makes of the Kronos space. `node gradio_calls.mjs URL < asked.json`, with
// `{"candles": {...}}`, in a folder whose node_modules hold the client; prints JSON.

import { readFileSync } from "node:fs";
import { Client } from "@gradio/client";

const { candles } = JSON.parse(readFileSync(0, "utf8"));
const client = await Client.connect(process.argv[2], { events: ["data", "status"] });

const refused = async (...call) => client.predict(...call).then(() => null, (error) => error.message ?? String(error));

const api = await client.predict("/predict_api", { align_to_hour: true, hour_idx: 1 });
const plot = await client.predict("/predict", [true, 24]);
const all = await client.predict("/predict_all", { hour_idx: 1 });
const custom = await client.predict("/predict_custom", { ohlcv_data: candles, pred_len: 3, sample_count: 5, hour_idx: 2 });
const info = await client.view_api();
const statuses = [];
for await (const message of client.submit("/predict_api", { hour_idx: 2 })) {
  if (message.type === "status") statuses.push(message.stage);
  if (statuses.at(-1) === "complete" || statuses.at(-1) === "error") break;
}
process.stdout.write(
  JSON.stringify({
    api: api.data,
    plot: plot.data,
    all: all.data,
    custom: custom.data,
    endpoints: Object.keys(info.named_endpoints),
    statuses,
    refused: await refused("/predict_api", { hour_idx: 25 }),
  }),
  () => process.exit(0), // the client keeps connections open
);
