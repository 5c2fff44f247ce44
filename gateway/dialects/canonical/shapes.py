"""The kinds of body that hold series: their types, the rules that no type can state, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Raw

from gateway.dialects.canonical import parameters
from gateway.dialects.canonical.evaluation_types import (
    AnomalyEnvelope,
    AnomalyParametersBody,
    BacktestEnvelope,
    BacktestParametersBody,
)
from gateway.dialects.canonical.group_types import EnsembleEnvelope, EnsembleParametersBody
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.types import ForecastEnvelope, ParametersBody, SeriesEnvelope
from gateway.domain import (
    METRICS,
    AnomalyRequest,
    BacktestRequest,
    EnsembleRequest,
    ForecastRequest,
    Metadata,
    Parameters,
    SeriesInput,
)
from gateway.errors import Fault


class Envelope(Protocol):
    """What every such body has; the long arrays and the parameters are not read yet."""

    @property
    def inputs(self) -> list[SeriesEnvelope]: ...
    @property
    def parameters(self) -> Raw: ...
    @property
    def metadata(self) -> Raw: ...


Sent = TypeVar("Sent", bound=Envelope)
Controls = TypeVar("Controls", bound=ParametersBody)
Asked = TypeVar("Asked")

KEPT = 1024  # bytes of parameters that are worth keeping once read: nearly all requests send the same few again


@dataclass(frozen=True, slots=True)
class ReadControls(Generic[Controls]):
    """The parameters of a body whose types are right."""

    sent: Controls
    faults: tuple[Fault, ...]
    horizon: int | None  # None: unknown for a fault of its own
    parameters: Parameters | None  # None: there are faults


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape(Generic[Sent, Controls, Asked]):
    """One kind of body."""

    envelope: type[Sent]
    controls: type[Controls]
    # Of a body without a fault.
    make: Callable[[Sent, tuple[SeriesInput, ...], Controls, Parameters, Metadata], Asked]
    rules: Callable[[Controls], Iterator[Fault]] = lambda _: iter(())  # beside those of every forecast
    beside: tuple[str, ...] = ()  # controls that may stand beside `parameters` as well as in it
    default_horizon: int | None = None  # None: the caller has to say

    def read(self, content: bytes, form: Format) -> ReadControls[Controls]:
        """The parameters in `content`; raises msgspec.DecodeError."""
        return _kept(self, content, form) if len(content) <= KEPT else _read(self, content, form)


def _read(shape: Shape[Any, Controls, Any], content: bytes, form: Format) -> ReadControls[Controls]:
    sent = form.decode(content, shape.controls)
    faults = (*parameters.faults(sent, shape.default_horizon), *shape.rules(sent))
    return ReadControls(
        sent,
        faults,
        parameters.horizon_of(sent, shape.default_horizon),
        None if faults else parameters.read(sent, shape.default_horizon),
    )


_kept = lru_cache(maxsize=1024)(_read)


def _no_dry_run(sent: ParametersBody) -> Iterator[Fault]:
    if sent.dry_run:
        yield Fault((*parameters.PLACE, "dry_run"), "only /v1/forecast and its batches answer a dry run")


def _repeats(name: str, values: tuple[str, ...] | None) -> Iterator[Fault]:
    for i, value in enumerate(values or ()):
        if value in (values or ())[:i]:
            yield Fault((*parameters.PLACE, name, i), f"{value} is there twice")


# -- forecast ---


def _forecast(
    sent: ForecastEnvelope,
    series: tuple[SeriesInput, ...],
    controls: ParametersBody,
    parameters: Parameters,
    metadata: Metadata,
) -> ForecastRequest:
    return ForecastRequest(model=sent.model, series=series, parameters=parameters, metadata=metadata)


FORECAST = Shape(envelope=ForecastEnvelope, controls=ParametersBody, make=_forecast)


# -- backtest ---


def _backtest_rules(sent: BacktestParametersBody) -> Iterator[Fault]:
    yield from _no_dry_run(sent)
    yield from _repeats("metrics", sent.metrics)


def _backtest(
    sent: BacktestEnvelope,
    series: tuple[SeriesInput, ...],
    controls: BacktestParametersBody,
    parameters: Parameters,
    metadata: Metadata,
) -> BacktestRequest:
    return BacktestRequest(
        forecast=ForecastRequest(model=sent.model, series=series, parameters=parameters, metadata=metadata),
        windows=controls.windows or 1,
        step=controls.step,
        metrics=METRICS if controls.metrics is None else controls.metrics,
        forecasts=controls.return_forecasts is not False,
    )


BACKTEST = Shape(
    envelope=BacktestEnvelope,
    controls=BacktestParametersBody,
    make=_backtest,
    rules=_backtest_rules,
    beside=("windows", "step", "metrics", "return_forecasts"),
)


# -- anomalies ---

ONE_AHEAD = 1


def _anomalies(
    sent: AnomalyEnvelope,
    series: tuple[SeriesInput, ...],
    controls: AnomalyParametersBody,
    parameters: Parameters,
    metadata: Metadata,
) -> AnomalyRequest:
    asked = ForecastRequest(model=sent.model, series=series, parameters=parameters, metadata=metadata)
    return AnomalyRequest(forecast=asked, scored_from=controls.scored_from)


ANOMALIES = Shape(
    envelope=AnomalyEnvelope,
    controls=AnomalyParametersBody,
    make=_anomalies,
    rules=_no_dry_run,
    beside=("sensitivity", "scored_from"),
    default_horizon=ONE_AHEAD,
)


# -- ensemble ---

# What stands beside `parameters` by right, and what some callers send there.
_ENSEMBLE_OWN = (
    "models",
    "top_n",
    "max_models",
    "scoring_metric",
    "budget",
    "windows",
    "step",
    "weighting",
    "selection",
)
_ENSEMBLE_LIFTED = ("prediction_length", "horizon", "frequency", "freq", "quantile_levels", "quantiles")


def _ensemble_rules(sent: EnsembleParametersBody) -> Iterator[Fault]:
    yield from _no_dry_run(sent)
    yield from _repeats("models", sent.models)


def _ensemble(
    sent: EnsembleEnvelope,
    series: tuple[SeriesInput, ...],
    controls: EnsembleParametersBody,
    parameters: Parameters,
    metadata: Metadata,
) -> EnsembleRequest:
    plain = EnsembleRequest(models=controls.models, series=series, parameters=parameters)
    return EnsembleRequest(
        models=controls.models,
        series=series,
        parameters=parameters,
        top_n=controls.top_n or plain.top_n,
        max_models=controls.max_models or plain.max_models,
        scoring_metric=controls.scoring_metric or plain.scoring_metric,
        budget_s=controls.budget or plain.budget_s,
        windows=controls.windows or plain.windows,
        step=controls.step,
        weighting=controls.weighting or plain.weighting,
        selection=controls.selection or plain.selection,
        metadata=metadata,
    )


ENSEMBLE = Shape(
    envelope=EnsembleEnvelope,
    controls=EnsembleParametersBody,
    make=_ensemble,
    rules=_ensemble_rules,
    beside=(*_ENSEMBLE_OWN, *_ENSEMBLE_LIFTED),
)
