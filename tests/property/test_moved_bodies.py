"""Whatever a caller of DataRobot, Nixtla or SageMaker sends, it is read or refused: nothing else is ever raised."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import datarobot, nixtla, sagemaker
from gateway.dialects.base import Call, Operation
from gateway.domain import Deployment
from gateway.errors import Code, GatewayError
from gateway.http.problems import STATUS
from gateway.pacing import at_once
from gateway.settings import DeploymentSettings

DEPLOYMENT = Deployment(
    id="d",
    settings=DeploymentSettings(target="y", date="t", series_id="s", known_in_advance=("k",), window_end=5, history=2),
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.just([]), st.just({})
)
NUMBERS = st.lists(st.one_of(st.none(), st.integers(-9, 9), st.floats(-1e9, 1e9)), min_size=1, max_size=12)
TIMES = st.one_of(
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(["01/31/24", "2024-02-29", "2024-13-01", "0001-01-01", "9999-12-31", "2024-01-01T00:00:00+14:00"]),
    st.integers(1, 28).map("2024-01-{:02}".format),
    st.text(max_size=8),
)
CELLS = st.one_of(
    st.integers(-5, 5).map(str), st.sampled_from(["", "NA", "x", "1e400", "inf", "nan"]), st.text(max_size=3)
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is wanted, and now and then something else."""
    return st.one_of(strategy, strategy, strategy, ODD)


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: mostly(one) for name, one in known.items()})


NIXTLA = fields(
    series=fields(
        y=NUMBERS,
        sizes=st.lists(st.integers(0, 6), max_size=3),
        X=st.lists(NUMBERS, max_size=2),
        X_future=st.lists(NUMBERS, max_size=2),
        start_datetime=st.lists(TIMES, max_size=2),
        categorical_exog=st.lists(st.integers(-2, 3), max_size=2),
    ),
    h=st.integers(0, 9),
    n_windows=st.integers(0, 9),
    step_size=st.integers(0, 9),
    full_history=st.booleans(),
    hist_exog=st.lists(st.integers(-2, 3), max_size=2),
    level=st.one_of(st.lists(st.floats(0, 100), max_size=3), st.integers(0, 100)),
    freq=st.sampled_from(["D", "ME", "x"]),
    model=st.text(max_size=9),
)
SAGEMAKER = fields(
    inputs=st.lists(
        fields(
            target=st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3)),
            start=TIMES,
            item_id=st.text(max_size=3),
            past_covariates=st.dictionaries(st.text(max_size=2), mostly(NUMBERS), max_size=2),
            future_covariates=st.dictionaries(st.text(max_size=2), mostly(NUMBERS), max_size=2),
        ),
        max_size=3,
    ),
    parameters=fields(
        prediction_length=st.integers(0, 5),
        quantile_levels=st.lists(st.floats(0, 1), max_size=3),
        freq=st.text(max_size=2),
    ),
)
COLUMNS = st.lists(st.sampled_from(["t", "y", "s", "k", "other"]), min_size=1, max_size=5, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """CSV or JSON rows, mostly with the columns that the deployment wants."""
    names = draw(st.one_of(st.just(["t", "y", "s", "k"]), COLUMNS))
    row = st.tuples(*(TIMES if name == "t" else CELLS for name in names))
    rows = draw(st.lists(row, max_size=8))
    if draw(st.booleans()):
        typed = [dict(zip(names, [draw(mostly(st.just(c))) for c in one], strict=True)) for one in rows]
        return json.dumps(typed).encode()
    return "\n".join([",".join(names), *(",".join(one) for one in rows)]).encode("utf-8", "surrogatepass")


ARGUMENTS = (
    "forecastPoint",
    "predictionsStartDate",
    "predictionsEndDate",
    "relaxKnownInAdvanceFeaturesCheck",
    "passthroughColumns",
    "passthroughColumnsSet",
    "maxExplanations",
)
VALUES = st.one_of(TIMES, st.sampled_from(["true", "all", "0", "k"]))
QUERIES = st.lists(st.tuples(st.sampled_from(ARGUMENTS), VALUES), max_size=3)


def read_or_refused(operation: Operation[Any, Any], call: Call) -> None:
    try:
        at_once(operation.parse(call))
    except GatewayError as error:
        assert error.code in (Code.MALFORMED, Code.INVALID_ARGUMENT, Code.UNSUPPORTED_MEDIA_TYPE)
        reply = operation.render_error(call, error, STATUS[error.code])
        assert isinstance(reply.body, bytes)
        assert json.loads(reply.body)


@settings(max_examples=200, deadline=None)
@given(body=NIXTLA, which=st.integers(0, 2))
def test_nixtlas_bodies(body: dict[str, Any], which: int) -> None:
    read_or_refused(nixtla.DIALECT.operations[which], Call(method="POST", path="/", body=json.dumps(body).encode()))


@settings(max_examples=200, deadline=None)
@given(body=SAGEMAKER, which=st.integers(0, 1))
def test_sagemakers_bodies(body: dict[str, Any], which: int) -> None:
    read_or_refused(sagemaker.DIALECT.operations[which], Call(method="POST", path="/", body=json.dumps(body).encode()))


@settings(max_examples=400, deadline=None)
@given(body=tables(), query=QUERIES, form=st.sampled_from(["text/csv", "application/json", ""]))
def test_datarobots_tables(body: bytes, query: list[tuple[str, str]], form: str) -> None:
    call = Call(
        method="POST",
        path="/",
        path_params={"id": "d"},
        query=tuple(query),
        headers={"content-type": form},
        body=body,
        deployments={"d": DEPLOYMENT},
    )
    read_or_refused(datarobot.DIALECT.operations[0], call)
