"""What a request asks that a model's card does not promise: faults with their places, and nothing else.

Pure functions of request and card. What can be judged without the card, the dialect has judged before.
"""

from __future__ import annotations

import numpy as np

from catalog import ModelCard
from gateway.domain import MAX_SERIES, ForecastRequest, Parameters, SeriesInput
from gateway.errors import Fault

MAX_NUMBERS = 10_000_000  # of one answer: 150 MB of JSON


def size_faults(request: ForecastRequest, card: ModelCard) -> list[Fault]:
    """What would be more than one call can hold in memory: a small body can ask for a huge answer."""
    p, count = request.parameters, len(request.series)
    if count > MAX_SERIES:
        return [Fault(("inputs",), f"{count} series are more than the {MAX_SERIES} that one call takes: split them")]
    levels = card.default_quantile_levels if p.quantile_levels is None else p.quantile_levels
    channels = sum(series.target.shape[1] for series in request.series)
    paths = (p.num_samples or 0) if card.sampling.native or p.sample_method == "copula" else 0
    numbers = p.prediction_length * channels * (1 + len(levels) + paths)
    if p.prediction_length <= card.max_horizon and numbers > MAX_NUMBERS:
        told = f"the answer would hold {numbers} numbers, more than the {MAX_NUMBERS} of one call: send fewer series"
        return [Fault(("parameters", "prediction_length"), told)]
    return []


def parameter_faults(p: Parameters, card: ModelCard) -> list[Fault]:
    """What the parameters ask that the card does not promise."""
    faults = []

    def refuse(name: str, msg: str) -> None:
        faults.append(Fault(("parameters", name), msg))

    if p.prediction_length > card.max_horizon:
        refuse(
            "prediction_length",
            f"{card.id} forecasts at most {card.max_horizon} steps, not {p.prediction_length}",
        )
    trained = card.quantile_levels
    if p.quantile_levels and trained and card.tails == "refuse":
        outside = [q for q in p.quantile_levels if not trained[0] <= q <= trained[-1]]
        if outside:
            refuse(
                "quantile_levels",
                f"{card.id} gives levels from {trained[0]} to {trained[-1]}, not {outside[0]}",
            )
    if p.sample_method == "copula" and not card.sampling.copula:
        refuse("sample_method", f"{card.id} does not offer samples by copula")
    if p.sample_method == "native" and not card.sampling.native:
        refuse("sample_method", f"{card.id} does not draw samples of its own")
    drawing = (("temperature", p.temperature), ("top_p", p.top_p), ("top_k", p.top_k))
    for name, value in drawing:
        if value is not None and not getattr(card.sampling, name):
            refuse(name, f"{card.id} does not support {name}")
    if p.cross_learning and not card.cross_learning:
        refuse("cross_learning", f"{card.id} does not support cross_learning")
    return faults


def series_faults(item: int, series: SeriesInput, card: ModelCard) -> list[Fault]:
    """What one series asks that the card does not promise."""
    place = ("inputs", item)
    faults: list[Fault] = []
    channels = series.target.shape[1]
    if channels > card.max_channels:
        faults.append(
            Fault((*place, "target"), f"{card.id} takes at most {card.max_channels} channels, not {channels}")
        )
    if series.channels is not None and not card.channel_names:
        faults.append(Fault((*place, "channels"), f"{card.id} does not take channel names"))
    elif series.channels is not None:
        faults += [
            Fault(
                (*place, "channels", i),
                f"{name!r} is no channel of {card.id}: {', '.join(card.channel_names)}",
            )
            for i, name in enumerate(series.channels)
            if name not in card.channel_names
        ]
    if card.required_channels:
        faults += _missing_channels(item, series, card)
    if card.missing_values == "refused" and np.isnan(series.target).any():
        row = int(np.argmax(np.isnan(series.target).any(axis=1)))
        faults.append(Fault((*place, "target", row), f"{card.id} takes no missing values"))
    if series.past_covariates or series.future_covariates:
        faults += _covariate_faults(item, series, card)
    return faults


def _covariate_faults(item: int, series: SeriesInput, card: ModelCard) -> list[Fault]:
    place = ("inputs", item)
    faults = []
    for kind, covariates in (("past", series.past_covariates), ("future", series.future_covariates)):
        for name, values in covariates.items():
            if isinstance(values, tuple) and not card.covariates.categorical:
                msg = f"{card.id} takes numbers here, not strings"
                faults.append(Fault((*place, f"{kind}_covariates", name), msg, "type_error"))
    for name in series.future_covariates.keys() & series.past_covariates.keys():
        past, future = series.past_covariates[name], series.future_covariates[name]
        if isinstance(past, tuple) != isinstance(future, tuple):
            msg = "must be strings in both past and future covariates, or in neither"
            faults.append(Fault((*place, "future_covariates", name), msg, "type_error"))
    if card.covariates.future != "ignored" and not card.covariates.future_only:
        user = "in-context regression" if card.covariates.future == "regression" else card.id
        faults += [
            Fault(
                (*place, "future_covariates", name),
                f"{user} needs the past of this covariate too: send the same name in past_covariates",
            )
            for name in series.future_covariates
            if name not in series.past_covariates
        ]
    return faults


def _missing_channels(item: int, series: SeriesInput, card: ModelCard) -> list[Fault]:
    """Channels that the model cannot do without; unnamed ones stand in the card's order."""
    names = card.channel_names[: series.target.shape[1]] if series.channels is None else series.channels
    missing = [name for name in card.required_channels if name not in names]
    if not missing:
        return []
    where = "target" if series.channels is None else "channels"
    needed = ", ".join(card.required_channels)
    return [Fault(("inputs", item, where), f"{card.id} needs the channels {needed}: {', '.join(missing)} missing")]


# -- building ---
