"""The Kronos space's dialect without a gateway: candles, requests, paths, plots and documents."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import Raw

from gateway.dialects.base import Call
from gateway.dialects.kronos_space import DIALECT, candles, functions, messages, paths, results
from gateway.dialects.kronos_space.candles import CandleError, Candles
from gateway.dialects.kronos_space.examples import ANSWERS, JOIN
from gateway.dialects.kronos_space.functions import FUNCTIONS, Order, Question
from gateway.domain import Forecast, Notice, SeriesForecast, Usage
from gateway.errors import GatewayError
from gateway.pacing import at_once
from tests.contract.dialects import content_of, holds, operation_of, parsed
from tests.seeds import seed_text
from tests.serving import packaged
from tests.space import FIRST_MS, HOUR_MS, klines
from tests.space import candles as sent_candles

SEED = "kronos-btc-space.txt"
BY_NAME = {function.name: function for function in FUNCTIONS}
END_S = (FIRST_MS + 400 * HOUR_MS) / 1000  # when the last of 400 candles is over


def question(name: str, *values: object) -> Question:
    raw = [Raw(json.dumps(value).encode()) for value in values]
    function = BY_NAME[name]
    return at_once(
        functions.question(Order(function=function, session=None, values=functions.positional(function, raw)))
    )


def of_market() -> Candles:
    return candles.of_klines(json.dumps(klines()).encode())


def forecast(samples: np.ndarray[Any, Any], *more: np.ndarray[Any, Any]) -> Forecast:
    """What a model answers with these paths, (paths, steps, channels) a series."""
    steps = samples.shape[1]
    stamps = tuple(f"2025-01-17T{i:02}:00:00Z" for i in range(steps))
    seed = Notice(code="seed_used", sentence="Sampled with seed 7.", item=0)
    outputs = tuple(
        SeriesForecast(
            mean=s.mean(axis=0), quantiles=np.empty((0, *s.shape[1:])), samples=s, timestamps=stamps, notices=(seed,)
        )
        for s in (samples, *more)
    )
    return Forecast(
        id="1",
        created=1,
        model="a-model",
        model_revision="1",
        provider="a provider",
        point="mean",
        horizon=steps,
        quantile_levels=(),
        input_points=1,
        outputs=outputs,
        usage=Usage(),
        latency_ms=1.0,
    )


# -- parameters ---


def test_the_functions_are_those_of_the_seed() -> None:
    text = seed_text(SEED)
    assert all(f"/{name}-" in text for name in BY_NAME)
    market = [p.name for p in BY_NAME["predict"].parameters]
    assert market == ["align_to_hour", "hour_idx"]
    ranges = [(p.least, p.most) for p in BY_NAME["predict_custom"].parameters[1:]]
    printed = text.partition('"amount": [100000.0, 110000.0, ...]\n}\n')[2].splitlines()[:5]
    assert [f"{least:g} {most:g}" for least, most in ranges] == printed


def test_defaults_are_the_spaces() -> None:
    asked = question("predict_api")
    assert (asked.align_to_hour, asked.hour_idx, asked.pred_len, asked.sample_count) == (True, 24, 24, 30)
    assert (asked.temperature, asked.top_p) == (1.0, 0.95)
    custom = question("predict_custom", sent_candles(5))
    assert (custom.pred_len, custom.sample_count, custom.hour_idx) == (24, 30, 24)


def test_the_printed_input_format_is_read() -> None:
    """As printed, without the dots that stand for more."""
    text = seed_text(SEED).partition("Input Format:\n")[2].partition("}\n")[0] + "}"
    body = json.loads(text.replace(", ...", ""))
    found = question("predict_custom", body).candles
    assert found is not None
    assert list(found.columns) == ["open", "high", "low", "close", "volume", "amount"]
    assert (found.frequency, found.stamps()) == ("h", ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"))
    assert question("predict_custom", json.dumps(body)).candles is not None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([True, 0], "minimum value 1"),
        ([True, 25], "maximum value 24"),
        (["yes", 1], "align_to_hour: Expected true or false"),
    ],
)
def test_arguments_out_of_range_are_named(values: list[object], words: str) -> None:
    with pytest.raises(GatewayError, match=words):
        question("predict_api", *values)


# -- the market's candles ---


def test_an_hour_that_is_not_over_is_left_out_where_asked() -> None:
    found = of_market()
    aligned, realtime = question("predict_api", True), question("predict_api", False)
    for now_s, used in ((END_S - 1, 398), (END_S, 399)):
        cut = aligned.of_market(found, now_s).candles
        assert cut is not None
        assert cut.close[-1] == found.close[used]
        assert len(cut) == functions.LOOKBACK
        assert cut.stamps()[-1] == str(np.datetime64((FIRST_MS + used * HOUR_MS) // 1000, "s")) + "Z"
    whole = realtime.of_market(found, END_S - 1).candles
    assert whole is not None
    assert whole.close[-1] == found.close[-1]


def test_klines_and_csv_are_the_same_candles() -> None:
    rows = klines(50)
    lines = ["Open_Time,Open,High,Low,Close,Volume,Amount"]
    lines += [f"{np.datetime64(int(r[0]), 'ms')}Z,{','.join(map(str, r[1:6]))},{r[7]}" for r in rows]
    of_file = candles.of_csv("\n".join(lines).encode())
    of_url = candles.of_klines(json.dumps(rows).encode())
    assert of_file.stamps() == of_url.stamps()
    assert all((of_file.columns[name] == column).all() for name, column in of_url.columns.items())
    assert of_url.frequency == "h"


def test_a_gap_in_the_market_moves_no_candle_after_it() -> None:
    rows = klines(50)
    del rows[20:23]
    found = candles.of_klines(json.dumps(rows).encode())
    assert (len(found), found.frequency) == (47, "h")
    assert found.stamps()[-1] == "2025-01-03T01:00:00Z"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "no JSON list"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "no JSON list"),
        (b"[]", "0 candles"),
        (b"[[1,2,3]]", "3 fields"),
        (b'[[1,"a","1","1","1","1"],[2,"1","1","1","1","1"]]', "no number"),
        (b'[[1,"nan","1","1","1","1"],[2,"1","1","1","1","1"]]', "not finite"),
        (b'[[1,"1","1","1","1","1"],[1,"1","1","1","1","1"]]', "evenly spaced"),
    ],
)
def test_what_is_no_kline_is_said(content: bytes, words: str) -> None:
    with pytest.raises(CandleError, match=words):
        candles.of_klines(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column timestamp, open"),
        (b"time,open,high,low,close\n1,1,1,1,1", "no column volume"),
        (b"time,open,high,low,close,volume\n1,1,1,1,1,1\nx,1,1,1,1,1", "line 3"),
        (b"time,open,high,low,close,volume\n1,1,1,1", "line 2"),
        (b"\xff\xfe", "no CSV"),
    ],
)
def test_what_is_no_csv_of_candles_is_said(content: bytes, words: str) -> None:
    with pytest.raises(CandleError, match=words):
        candles.of_csv(content)


# -- requests and paths ---


def test_a_model_of_candles_is_asked_for_candles() -> None:
    asked = question("predict_api").of_market(of_market(), END_S)
    assert asked.candles is not None
    request = paths.request(asked, asked.candles, packaged("NeoQuasar/Kronos-mini"))
    (series,) = request.series
    assert series.channels == ("open", "high", "low", "close", "volume", "amount")
    assert series.target.shape == (360, 6)
    p = request.parameters
    assert (p.prediction_length, p.num_samples, p.temperature, p.top_p) == (24, 30, 1.0, 0.95)
    assert (p.sample_method, p.frequency, p.quantile_levels) == ("native", "h", ())


@pytest.mark.parametrize(("name", "series"), [("predict", 1), ("predict_api", 1), ("predict_all", 5)])
def test_any_other_model_is_asked_for_the_close_first(name: str, series: int) -> None:
    asked = question(name).of_market(of_market(), END_S)
    assert asked.candles is not None
    request = paths.request(asked, asked.candles, packaged("amazon/chronos-bolt-mini"))
    assert len(request.series) == series
    assert (request.series[0].target[:, 0] == asked.candles.close).all()
    assert (request.parameters.sample_method, request.parameters.temperature) == ("copula", None)


def test_every_path_is_of_candles_that_can_be() -> None:
    """Whatever a model draws for gap, shadows and volume, below 0 too."""
    random = np.random.default_rng(1)
    asked = question("predict_all").of_market(of_market(), END_S)
    assert asked.candles is not None
    parts = [random.normal(0, scale, size=(30, 24, 1)) for scale in (60_000, 50, 40, 40, 900)]
    found = paths.drawn(asked.candles, forecast(*parts))
    assert (found["close"] == parts[0][..., 0]).all()
    assert (found["high"] >= np.maximum(found["open"], found["close"])).all()
    assert (found["low"] <= np.minimum(found["open"], found["close"])).all()
    assert (found["volume"] >= 0).all()
    assert np.allclose(found["open"][:, 0], asked.candles.close[-1] + parts[1][:, 0, 0])
    assert np.allclose(found["open"][:, 1:], found["close"][:, :-1] + parts[1][:, 1:, 0])


def test_parts_of_candles_make_those_candles_again() -> None:
    """The parts of the last hours, drawn exactly, are the last hours."""
    whole = of_market()
    known, ahead = whole._part(0, 376), whole._part(376, 400)
    asked = replace(question("predict_all"), candles=known)
    card = packaged("amazon/chronos-bolt-mini")
    truth = paths.request(replace(asked, candles=whole), whole, card).series
    drawn = paths.drawn(known, forecast(*(s.target[None, 376:] for s in truth)))
    for name in ("open", "high", "low", "close", "volume"):
        assert np.allclose(drawn[name][0], ahead.columns[name]), name


# -- results ---


def test_upside_is_the_share_of_paths_strictly_above_the_last_close() -> None:
    close = np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0], [2.0, 2.5]])
    assert results.upside_probabilities(close, 2.0) == [0.25, 0.5]


def test_results_have_the_printed_keys() -> None:
    asked = question("predict_all", True, 2).of_market(of_market(), END_S)
    assert asked.candles is not None
    parts = [np.random.default_rng(i).normal(60_000, 900, size=(30, 24, 1)) for i in range(5)]
    (answer,) = results.output(asked, asked.candles, forecast(*parts), ["a notice"])
    assert isinstance(answer, results.Result)
    assert answer.upside_probability == answer.upside_probability_all_hours[1]
    assert len(answer.upside_probability_all_hours) == 24
    assert answer.predictions.mean == pytest.approx(parts[0][..., 0].mean(axis=0))
    assert (answer.model, answer.seed, answer.notices[0]) == ("a-model", 7, "a notice")
    assert answer.all_samples is not None
    assert list(answer.all_samples) == ["open", "high", "low", "close", "volume"]
    for column in answer.all_samples.values():
        assert list(column) == [f"pred-{i}" for i in range(1, 31)]
        assert {len(path) for path in column.values()} == {24}


@pytest.mark.parametrize("name", ["predict_api", "predict_all", "predict"])
def test_prices_whose_mean_is_no_number_are_an_error(name: str) -> None:
    """Each path is one, and their sum is not."""
    asked = question(name).of_market(of_market(), END_S)
    assert asked.candles is not None
    with np.errstate(over="ignore"):
        drawn = forecast(*[np.full((30, 24, 1), 1e308)] * (5 if name == "predict_all" else 1))
    with pytest.raises(GatewayError, match="too large"):
        results.output(asked, asked.candles, drawn, [])


def test_the_plot_is_a_figure_of_plotly() -> None:
    """plotly itself reads it: a key that it does not know, or a value that cannot be, raises."""
    figures = pytest.importorskip("plotly.graph_objects", reason="plotly is not on this machine")
    asked = question("predict").of_market(of_market(), END_S)
    assert asked.candles is not None
    samples = np.random.default_rng(2).normal(60_000, 900, size=(30, 24, 1))
    plot, answer = results.output(asked, asked.candles, forecast(samples), [])
    assert isinstance(plot, results.Plot)
    assert isinstance(answer, results.Result)
    assert plot.type == "plotly"
    figure = figures.Figure(json.loads(plot.plot))
    history, highest, lowest, mean = figure.data
    assert history.y[-1] == mean.y[0] == asked.candles.close[-1]
    assert list(mean.y[1:]) == answer.predictions.mean
    assert (list(highest.y[1:]), list(lowest.y[1:])) == (answer.predictions.max, answer.predictions.min)
    assert (lowest.fill, highest.fill) == ("tonexty", None)
    assert history.x[-1] == mean.x[0]


# -- wire ---


@pytest.mark.parametrize("example", ANSWERS, ids=lambda e: e.name)
def test_golden_answers_have_their_shape(example: Any) -> None:
    """A result as it is rendered has every key of the golden one, in its order, with its type."""
    (golden,) = json.loads(example.response)
    values = json.loads(example.request)["data"]
    asked = question(example.name.replace("-", "_"), *values)
    asked = asked if asked.candles is not None else asked.of_market(of_market(), END_S)
    assert asked.candles is not None
    samples = np.full((asked.sample_count, asked.pred_len, 1), 60_000.0)
    data = results.output(asked, asked.candles, forecast(samples), ["a notice"])
    frame = messages.named(
        messages.ProcessCompleted(output=messages.Output(data=data, duration=1, average_duration=1), success=True)
    )
    event, _, content = frame.decode().strip().partition("\ndata: ")
    assert event == "event: complete"
    (rendered,) = json.loads(content)
    holds(rendered, golden)


def test_an_event_is_handed_in_as_it_is_printed() -> None:
    operation = operation_of(DIALECT, "/gradio_api/queue/join")
    (example,) = JOIN
    call = Call(method="POST", path=operation.path, body=example.request)
    order = parsed(operation, call)
    assert (order.function.name, order.session) == ("predict_api", "k3j5h7d9s1")
    holds(
        json.loads(content_of(operation.render(call, "6a9cd45a978b4d238eaf9a31f4a436b8"))), json.loads(example.response)
    )


def test_the_config_is_of_one_piece() -> None:
    """Every input and output is a component, and the functions stand in the order of their index."""
    operation = operation_of(DIALECT, "/config")
    config = json.loads(content_of(operation.render(Call(method="GET", path="/config", base_url="http://here"), None)))
    ids = {component["id"] for component in config["components"]}
    for i, dependency in enumerate(config["dependencies"]):
        assert (dependency["id"], dependency["api_name"]) == (i, FUNCTIONS[i].name)
        assert {*dependency["inputs"], *dependency["outputs"]} <= ids
    assert (config["protocol"], config["api_prefix"], config["root"]) == ("sse_v3", "/gradio_api", "http://here")
    assert config["connect_heartbeat"] is False


def test_an_event_source_is_told_no_comment() -> None:
    for message in (messages.Heartbeat(), messages.CloseStream(), messages.NOT_FOUND):
        assert messages.data(message).startswith(b"data: {")
    assert messages.named(messages.Heartbeat()) == b"event: heartbeat\ndata: null\n\n"
    assert messages.named(messages.CloseStream()) == b""
