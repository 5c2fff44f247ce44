"""What KServe's own package does with a gateway: probes, a typed forecast, its calendar, its judgement of odd bodies.

Run in the environment of `kserve.txt`: `python kserve_calls.py URL < requests.json`, with
`{"request": {...}, "models": [...], "unknown": name, "odd": [body text, ...]}`; prints JSON.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import httpx
from kserve import InferenceRESTClient, RESTConfig
from kserve.protocol.rest.timeseries.types import FREQUENCY_MAP, ForecastRequest, ForecastResponse, Frequency
from pydantic import ValidationError

PATH = "/v1/timeseries/forecast"
STARTS = ("2024-01-31T00:00:00Z", "2024-02-29T23:59:59Z", "2025-06-05T13:10:00Z", "2025-12-31T12:00:00Z")
FORM = "%Y-%m-%dT%H:%M:%SZ"


def accepted(body):
    try:
        ForecastRequest.model_validate(json.loads(body))
    except (ValidationError, ValueError):
        return False
    return True


def calendar():
    """One input for each frequency and start, and the stamp that the reference server answers."""
    inputs, expected = [], []
    for frequency in Frequency:
        for start in STARTS:
            for rows in (1, 2, 13):
                shown = {"type": "univariate_time_series", "name": "a", "frequency": frequency.value}
                inputs.append({**shown, "series": [1.0] * rows, "start_timestamp": start})
                moved = datetime.strptime(start, FORM).replace(tzinfo=UTC) + FREQUENCY_MAP[frequency.value](rows)
                expected.append(moved.strftime(FORM))
    return inputs, expected


async def failure(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    return None


async def main(url, asked):
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    request = ForecastRequest.model_validate(asked["request"])
    answer = await v2.infer(url + PATH, request.model_dump(mode="json"), is_graph_endpoint=True)
    typed = ForecastResponse.model_validate(answer)
    inputs, expected = calendar()
    many = {"model": "seasonal-naive", "inputs": inputs, "options": {"horizon": 1}}
    stamped = ForecastResponse.model_validate(await v2.infer(url + PATH, many, is_graph_endpoint=True))
    print(
        json.dumps(
            {
                "live": [await v1.is_server_live(url), await v2.is_server_live(url)],
                "ready": await v2.is_server_ready(url),
                "models": [[await c.is_model_ready(url, m) for c in (v1, v2)] for m in asked["models"]],
                "unknown": await failure(v1.is_model_ready(url, asked["unknown"])),
                "refused": await failure(
                    v1.infer(url + PATH, {**asked["request"], "options": {"horizon": 0}}, is_graph_endpoint=True)
                ),
                "answer": typed.model_dump(mode="json"),
                "stamps": [o.content[0].start_timestamp for o in stamped.outputs],
                "expected": expected,
                "accepted": [accepted(body) for body in asked["odd"]],
            }
        )
    )


asyncio.run(main(sys.argv[1], json.load(sys.stdin)))
