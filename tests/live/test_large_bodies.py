"""One huge body: taken, split and answered, while small callers are served."""

from __future__ import annotations

import threading

import httpx
import numpy as np

from tests.serving import Gateway

SERIES, POINTS = 1000, 2048
JSON = {"content-type": "application/json"}
SMALL = {"model": "seasonal-naive", "inputs": [{"target": [[1], [2]]}], "parameters": {"prediction_length": 1}}


def huge() -> bytes:
    values = np.random.default_rng(0).normal(100, 10, (SERIES, POINTS)).round(3)
    series = ('{"target":[' + ",".join(f"[{v}]" for v in row) + "]}" for row in values.tolist())
    head = '{"model":"seasonal-naive","parameters":{"prediction_length":24,"frequency":"h"},"inputs":['
    return (head + ",".join(series) + "]}").encode()


def test_a_thousand_series_are_answered_while_small_callers_are(gateway: Gateway) -> None:
    answers: list[httpx.Response] = []
    body = huge()

    def ask() -> None:
        with gateway.client() as caller:
            answers.append(caller.post("/v1/forecast", content=body, headers=JSON))

    large = threading.Thread(target=ask)
    served_before = 0
    with gateway.client() as small:
        large.start()
        while large.is_alive():
            assert small.get("/livez").status_code == 200
            assert small.post("/v1/forecast", json=SMALL).status_code == 200
            served_before += not answers
    (answer,) = answers
    assert answer.status_code == 200
    outputs = answer.json()["outputs"]
    assert [len(o["mean"]) for o in outputs] == [24] * SERIES
    # Were the loop held by the huge body, at most the first of these would have come through before its answer.
    assert served_before >= 3
