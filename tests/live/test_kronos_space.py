"""Gradio's own clients, and whoever speaks like them, against a live Kronos space."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.dialects.guide import OddRequest
from gateway.dialects.kronos_space.examples import ODD
from tests.clients import packages_of, python_of, run
from tests.contract.dialects import contains
from tests.contract.space import space, steady
from tests.live.gated import Gate
from tests.seeds import seed_text
from tests.serving import COMMAND, REPOSITORY, START_LIMIT_S, Gateway, serving, small_models
from tests.space import FIRST_MS, HEAD, HOUR_MS, Market, ask, call, candles, events, klines, told

CLIENTS = Path(__file__).parents[1] / "clients"
NANO = "forecast-gateway/bolt-nano"
KRONOS = "NeoQuasar/Kronos-mini"
GATED = "test/gated"
API = "/gradio_api/call/predict_api"
JOIN, DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
RESULT = ["upside_probability", "upside_probability_all_hours", "predictions"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Market]]:
    """A gateway with a market and without a Kronos."""
    with space(tmp_path_factory.mktemp("space")) as both:
        yield both


@pytest.fixture
def caller(here: tuple[Gateway, Market]) -> Iterator[httpx.Client]:
    with here[0].client() as found:
        yield found


def is_result(result: dict[str, Any], steps: int = 24) -> None:
    assert list(result)[:3] == RESULT
    assert isinstance(result["upside_probability"], float | int)  # JavaScript writes 1.0 as 1
    assert len(result["upside_probability_all_hours"]) == steps
    assert list(result["predictions"]) == ["mean", "min", "max"]
    assert {len(values) for values in result["predictions"].values()} == {steps}


def is_every_path(result: dict[str, Any]) -> None:
    samples = result["all_samples"]
    assert list(samples) == ["open", "high", "low", "close", "volume"]
    columns = {name: np.array(list(paths.values())) for name, paths in samples.items()}
    assert {column.shape for column in columns.values()} == {(30, 24)}
    assert (columns["high"] >= np.maximum(columns["open"], columns["close"])).all()
    assert (columns["low"] <= np.minimum(columns["open"], columns["close"])).all()
    assert (columns["volume"] >= 0).all()


# -- clients ---


def test_the_python_client_runs_the_printed_lines(here: tuple[Gateway, Market]) -> None:
    printed = seed_text("kronos-btc-space.txt").partition("Quick Start (Python)\n")[2].partition("API Endpoints")[0]
    asked = json.dumps({"printed": printed, "candles": candles(60)})
    output = run([python_of("gradio"), CLIENTS / "gradio_calls.py", here[0].base_url], stdin=asked)
    said = json.loads(output.splitlines()[-1])
    api, (plot, result), every = said["printed"]
    for answer in (api, result, every):
        is_result(answer)
        assert answer["model"] == NANO
    assert plot["type"] == "plotly"
    assert {"data", "layout"} == set(json.loads(plot["plot"]))
    is_every_path(every)
    assert api["upside_probability"] == api["upside_probability_all_hours"][0]
    assert result["upside_probability"] == result["upside_probability_all_hours"][23]
    assert str(api["upside_probability"]) in output  # printed by the lines themselves
    assert list(said["endpoints"]) == ["/predict", "/predict_api", "/predict_all", "/predict_custom"]
    assert said["endpoints"]["/predict_api"] == ["align_to_hour", "hour_idx"]
    is_result(said["defaults"])
    is_result(said["by_index"])
    is_result(said["custom"], 3)
    is_result(said["custom_text"], 3)
    assert said["custom"]["last_close"] == candles(60)["close"][-1]
    assert any("temperature" in notice for notice in said["custom"]["notices"])
    assert said["too_far"] == "hour_idx: Value 25 is greater than maximum value 24."
    assert said["no_candles"].startswith("ohlcv_data.")
    assert said["at_once"] == [True] * 3


def test_the_javascript_client_calls_every_function(here: tuple[Gateway, Market], tmp_path: Path) -> None:
    packages = packages_of("gradio-js") / "node_modules"
    (tmp_path / "node_modules").symlink_to(packages)
    script = shutil.copy(CLIENTS / "gradio_calls.mjs", tmp_path)
    asked = json.dumps({"candles": candles(60)})
    said = json.loads(run(["node", script, here[0].base_url], stdin=asked).splitlines()[-1])
    (api,), (plot, result), (every,), (custom,) = (said[name] for name in ("api", "plot", "all", "custom"))
    is_result(api)
    is_result(result)
    is_result(custom, 3)
    is_every_path(every)
    assert plot["type"] == "plotly"
    assert said["endpoints"] == ["/predict", "/predict_api", "/predict_all", "/predict_custom"]
    assert (said["statuses"][0], said["statuses"][-1]) == ("pending", "complete")
    assert said["refused"] == "hour_idx: Value 25 is greater than maximum value 24."


# -- the protocol ---


def test_odd_requests_are_answered_as_told(caller: httpx.Client) -> None:
    """The table of the dialect's page: in the dialect's own shape, and never a 500."""

    def check(row: OddRequest) -> None:
        status, answer = ask(caller, row.method, row.path, row.content)
        assert status == row.status, f"{row.sent}: {answer}"
        contains(steady(answer), json.loads(bytes(row.answer)))

    for row in ODD:
        check(row)


def test_messages_come_in_gradios_order(caller: httpx.Client) -> None:
    body = {"data": [True, 1], "fn_index": 1, "session_hash": "order"}
    ids = [caller.post(JOIN, json=body).json()["event_id"] for _ in range(2)]
    answer = caller.get(DATA, params={"session_hash": "order"})
    heard = [data for _, data in events(answer.text)]
    for id in ids:
        assert [m["msg"] for m in heard if m["event_id"] == id] == ["estimation", "process_starts", "process_completed"]
    ended = next(m for m in heard if m["msg"] == "process_completed")
    assert ended["success"] is True
    assert set(ended["output"]) >= {"data", "is_generating", "duration", "average_duration"}
    assert heard[-1] == {"msg": "close_stream", "event_id": None}
    assert "404" in caller.get(DATA, params={"session_hash": "order"}).text  # it was read, and is forgotten


def test_a_call_too_large_is_refused(caller: httpx.Client) -> None:
    body = b'{"data":[{"open":[' + b"1," * 3_000_000 + b"1]}]}"
    reply = caller.post("/gradio_api/call/predict_custom", content=body, headers=HEAD)
    assert reply.status_code == 413
    assert "Send fewer candles" in reply.json()["detail"]


def test_paths_are_those_of_the_canonical_contract(caller: httpx.Client) -> None:
    """With the seed of the answer, `/v1/forecast` draws the same closes, of the market's last 360.

    To rounding: the close runs in a batch with the other columns here, and alone there.
    """
    every = call(caller, "predict_all", True, 1)
    closes = [[float(row[4])] for row in klines()[-360:]]
    body = {
        "model": every["model"],
        "inputs": [{"target": closes, "start": "2025-01-02T16:00:00Z"}],
        "parameters": {
            "prediction_length": 24,
            "frequency": "h",
            "quantile_levels": [],
            "num_samples": 30,
            "sample_method": "copula",
            "seed": every["seed"],
        },
    }
    output = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"][0]
    drawn = np.array(output["samples"])[..., 0]
    paths = np.array(list(every["all_samples"]["close"].values()))
    assert np.allclose(paths, drawn, rtol=1e-5, atol=0)
    assert output["timestamps"] == every["timestamps"]
    assert every["predictions"]["mean"] == pytest.approx(paths.mean(axis=0).tolist())
    assert every["predictions"]["min"] == paths.min(axis=0).tolist()
    assert every["upside_probability_all_hours"] == (paths > closes[-1][0]).mean(axis=0).tolist()


def test_the_close_alone_is_that_of_the_canonical_contract(caller: httpx.Client) -> None:
    found = call(caller, "predict_custom", candles(60), 6, 9, 1.0, 0.95, 1)
    body = {
        "model": found["model"],
        "inputs": [{"target": [[value] for value in candles(60)["close"]], "start": "2025-01-01T00:00:00"}],
        "parameters": {
            "prediction_length": 6,
            "frequency": "h",
            "quantile_levels": [],
            "num_samples": 9,
            "sample_method": "copula",
            "seed": found["seed"],
        },
    }
    output = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"][0]
    drawn = np.array(output["samples"])[..., 0]
    assert found["predictions"]["min"] == drawn.min(axis=0).tolist()
    assert found["predictions"]["max"] == drawn.max(axis=0).tolist()


# -- the market ---


def test_the_last_hour_counts_only_where_it_is_asked_for(here: tuple[Gateway, Market], caller: httpx.Client) -> None:
    """Candles of 2025 are all over; one that begins in the year 2100 is not."""
    source = here[1]
    kept = source.answer
    try:
        late = klines(400, first_ms=4_102_444_800_000)
        source.answer = json.dumps(late).encode()
        assert call(caller, "predict_api", True, 1)["last_close"] == float(late[-2][4])
        assert call(caller, "predict_api", False, 1)["last_close"] == float(late[-1][4])
    finally:
        source.answer = kept


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"<html>", 200, "no JSON list of klines"),
        (b"", 451, "answered with 451"),
        (b"", 302, "answered with 302"),
        (b"[" + b"1," * 2_200_000 + b"1]", 200, "more than 4194304 bytes"),
    ],
)
def test_a_market_that_fails_is_an_error_of_the_event(
    here: tuple[Gateway, Market], caller: httpx.Client, answer: bytes, status: int, words: str
) -> None:
    source = here[1]
    kept, asked = source.answer, source.asked
    source.headers = {"location": source.url}
    try:
        source.answer, source.status = answer, status
        _, said = ask(caller, "POST", API, b'{"data":[]}')
        assert words in said["error"]["error"]
        assert source.asked == asked + 1  # no redirect is followed
    finally:
        source.answer, source.status, source.headers = kept, 200, {}


def test_without_a_source_the_error_says_how_to_set_one(client: httpx.Client) -> None:
    _, said = ask(client, "POST", API, b'{"data":[]}')
    assert "market_data_url" in said["error"]["error"]
    _, said = ask(client, "POST", "/gradio_api/call/predict_custom", json.dumps({"data": [candles(9)]}).encode())
    is_result(said["complete"][0])


def test_a_csv_file_is_a_market_too_and_a_kronos_whose_weights_are_here_draws(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("kronos-space")
    rows = klines()
    file = folder / "market.csv"
    lines = ["timestamp,open,high,low,close,volume", *(",".join(map(str, row[:6])) for row in rows)]
    file.write_text("\n".join(lines))
    config = {
        "engine": {"weights_dir": str(folder / "weights"), "workers": 1, "statistical_workers": 1},
        "models": small_models([KRONOS], folder / "weights"),
        "market_data": {"market_data_file": str(file)},
    }
    with serving(folder / "gateway", config=config) as gateway, gateway.client() as caller:
        every = call(caller, "predict_all", True, 24)  # an event waits until its model is loaded
        assert every["model"] == KRONOS
        names = ["open", "high", "low", "close", "volume"]
        target = [[float(value) for value in row[1:6]] for row in rows[-360:]]
        start = str(np.datetime64(FIRST_MS + 40 * HOUR_MS, "ms").astype("datetime64[s]"))
        body = {
            "model": KRONOS,
            "inputs": [{"target": target, "start": start, "channels": names}],
            "parameters": {
                "prediction_length": 24,
                "frequency": "h",
                "quantile_levels": [],
                "num_samples": 30,
                "temperature": 1.0,
                "top_p": 0.95,
                "seed": every["seed"],
            },
        }
        drawn = np.array(caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"][0]["samples"])
        for i, name in enumerate(names):
            assert np.allclose(list(every["all_samples"][name].values()), drawn[..., i], rtol=1e-5), name
        cool = call(caller, "predict_custom", candles(60), 3, 5, 0.5, 0.9, 1)
        assert cool["model"] == KRONOS
        assert not any("does not take" in notice for notice in cool["notices"])


# -- sessions, with keys ---

ROWS = 33  # candles of a call that stops at the gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    return Gate.make(tmp_path_factory.mktemp("space-gate") / "gate")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[tuple[Gateway, list[str]]]:
    """A gateway with one worker, a model that waits at `gate`, and two callers' keys."""
    folder = tmp_path_factory.mktemp("guarded")
    card = {
        "title": "Gated",
        "family": "gated",
        "adapter": "tests.live.gated:Gated",
        "adapter_options": {"folder": str(gate.folder), "length": ROWS},
        "licence": {"id": "none"},
        "max_context": 1000,
        "max_horizon": 48,
        "sampling": {"copula": True},
        "batching": {"pool": "statistical"},
    }
    data = folder / "gateway" / "data"
    data.mkdir(parents=True)
    keys = []
    for name in ("one", "other"):
        options = ["--data-dir", str(data), "--name", name, "--models", "*", "--json"]
        made = subprocess.run(
            [sys.executable, "-c", COMMAND, "keys", "create", *options],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
        )
        keys.append(json.loads(made.stdout)["key"])
    config = {
        "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
        "dialects": {"candle_model": GATED},
        "models": {GATED: card},
    }
    with serving(folder / "gateway", config=config) as gateway:
        yield gateway, keys


def custom(rows: int, session: str) -> dict[str, Any]:
    return {"data": [candles(rows), 2, 3, 1.0, 0.95, 1], "fn_index": 3, "session_hash": session}


def answered(caller: httpx.Client, session: str) -> dict[str, Any]:
    """A call that does not wait at the gate, and its end: the one worker is free for it."""
    caller.post(JOIN, json=custom(8, session)).raise_for_status()
    heard = [data for _, data in events(caller.get(DATA, params={"session_hash": session}).text)]
    assert heard[-2]["success"] is True
    found: dict[str, Any] = heard[-2]["output"]["data"][0]
    return found


def test_work_of_a_client_that_left_is_withdrawn(guarded: tuple[Gateway, list[str]], gate: Gate) -> None:
    """The gate is never opened: only giving the batch up can free the one worker."""
    gateway, (key, _) = guarded
    with gateway.client(authorization=f"Bearer {key}") as staying:
        staying.post(JOIN, json=custom(ROWS, "leaving")).raise_for_status()
        leaving = socket.create_connection(gateway.address, timeout=60)
        head = f"GET {DATA}?session_hash=leaving HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
        leaving.sendall(head.encode())
        assert b"200 OK" in leaving.recv(4096)
        gate.wait_until_started()
        leaving.close()
        assert answered(staying, "staying")["model"] == GATED
        assert "404" in staying.get(DATA, params={"session_hash": "leaving"}).text
    assert gateway.metric("gateway_requests_total", code="CLIENT_LEFT", endpoint="/predict_custom") == 1
    assert gateway.metric("gateway_queue_series") == 0


def test_an_event_can_be_cancelled_and_says_so(guarded: tuple[Gateway, list[str]], gate: Gate) -> None:
    gateway, (key, other) = guarded
    with (
        gateway.client(authorization=f"Bearer {key}") as mine,
        gateway.client(authorization=f"Bearer {other}") as theirs,
    ):
        id = mine.post(JOIN, json=custom(ROWS, "cancelled")).json()["event_id"]
        gate.wait_until_started()
        event = {"event_id": id, "session_hash": "cancelled", "fn_index": 3}
        # another caller's word changes nothing, and shows nothing
        assert theirs.post("/gradio_api/cancel", json=event).json() == {"success": True}
        assert "404" in theirs.get(DATA, params={"session_hash": "cancelled"}).text
        assert "404" in theirs.get(f"{API}/{id}").text
        assert mine.post("/gradio_api/cancel", json=event).json() == {"success": True}
        heard = [data for _, data in events(mine.get(DATA, params={"session_hash": "cancelled"}).text)]
        assert heard[-2]["output"] == {}
        assert [m["msg"] for m in heard][-1] == "close_stream"
        assert answered(mine, "after")["model"] == GATED


def test_one_callers_session_is_not_anothers_of_the_same_name(guarded: tuple[Gateway, list[str]]) -> None:
    gateway, keys = guarded
    with (
        gateway.client(authorization=f"Bearer {keys[0]}") as one,
        gateway.client(authorization=f"Bearer {keys[1]}") as two,
    ):
        ids = [c.post(JOIN, json=custom(8, "same")).json()["event_id"] for c in (one, two)]
        for c, id in ((two, ids[1]), (one, ids[0])):
            heard = [data for _, data in events(c.get(DATA, params={"session_hash": "same"}).text)]
            assert {m["event_id"] for m in heard} == {id, None}


def test_an_event_is_one_request_of_its_caller(guarded: tuple[Gateway, list[str]]) -> None:
    """Under its own name, with its tokens; handing it in and listening are none."""
    gateway, (_, key) = guarded

    def used(caller: httpx.Client) -> dict[str, dict[str, Any]]:
        answer = caller.get("/v1/usage", params={"group_by": "endpoint"}).raise_for_status().json()
        return {row["endpoint"]: row for row in answer["data"]}

    with gateway.client(authorization=f"Bearer {key}") as caller:
        before = used(caller)
        answered(caller, "counted")
        after = used(caller)
        old, new = before.get("/predict_custom", {"requests": 0, "total_tokens": 0}), after["/predict_custom"]
        assert new["requests"] == old["requests"] + 1
        assert new["total_tokens"] == old["total_tokens"] + 8 + 2 * 3  # cells read, and steps of three paths
        assert after.get(JOIN) == before.get(JOIN)
        assert DATA not in after


def test_a_caller_without_a_key_is_refused_in_gradios_shape(guarded: tuple[Gateway, list[str]]) -> None:
    gateway, keys = guarded
    with gateway.client() as nobody:
        for path in ("/config", f"{DATA}?session_hash=x"):
            reply = nobody.get(path)
            assert (reply.status_code, list(reply.json())) == (401, ["detail"])
        assert nobody.post(JOIN, json=custom(8, "x")).status_code == 401
    with gateway.client(
        **{"x-hf-authorization": f"Bearer {keys[0]}"}
    ) as client:  # as `Client(url, token=...)` sends it
        assert client.get("/config").status_code == 200


def test_what_nobody_reads_still_ends(caller: httpx.Client) -> None:
    """The curl form: handed in by one connection, read by another, once."""
    id = caller.post(API, json={"data": []}).json()["event_id"]
    assert told(caller, API, id)[0] == "complete"
    assert told(caller, API, id) == ("error", "404: Not Found")


def test_an_event_that_was_accepted_ends_before_the_gateway_stops(
    guarded: tuple[Gateway, list[str]], gate: Gate
) -> None:
    """The last test of `guarded`: its gateway is gone after it."""
    gateway, (key, _) = guarded
    with (
        gateway.client(authorization=f"Bearer {key}") as caller,
        gateway.client(authorization=f"Bearer {key}") as listener,
    ):
        caller.post(JOIN, json=custom(ROWS, "last")).raise_for_status()
        gate.wait_until_started()
        with listener.stream("GET", DATA, params={"session_hash": "last"}) as stream:
            gateway.process.send_signal(signal.SIGTERM)
            gate.open()
            heard = [data for _, data in events(stream.read().decode())]
    assert [m["msg"] for m in heard][-2:] == ["process_completed", "close_stream"]
    assert heard[-2]["success"] is True
    assert gateway.process.wait(START_LIMIT_S) == 0
