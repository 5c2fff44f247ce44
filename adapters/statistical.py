"""AutoETS, AutoTheta and AutoARIMA: a model chosen and fitted for every channel by `statsforecast`.

The library chooses, fits and forecasts; the forecast is normal around its mean at every step, so that any level
can be asked for. A season over `LONGEST_SEASON` steps is taken out by STL first and added back, as the library's
own MSTL does: fitting so many seasonal states takes minutes and forecasts worse. Where a model cannot be fitted,
or runs away over the horizon, a simpler one steps in and the caller is told.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import ClassVar, Self

import numpy as np
import statsforecast.models as library
from statsforecast.mstl import mstl

from adapters.arrays import filled, without_leading_gap
from adapters.base import Array, Batch, BatchForecast, Device, Remark, Series, SeriesFailure, SeriesForecast
from adapters.deviations import Smoothing, Theta, smoothing_deviation, theta_deviation
from adapters.quantiles import normal_quantiles
from adapters.seasonal_naive import repeat_season, usable_season
from catalog.card import ModelCard

LONGEST_SEASON = 12  # at 24 AutoARIMA needs up to a minute a series, and AutoETS errs twice as much
SAME = 1e-13  # a range below this share of the values is rounding, not movement
MODEST = (1e-3, 1e6)  # the library's tolerances and bounds are absolute: values are brought into this range


@dataclass(frozen=True, slots=True)
class Normal:
    """A forecast that is normal at every step: `mean` and standard `deviation`, both (horizon,)."""

    mean: Array
    deviation: Array


@dataclass(frozen=True, slots=True)
class Method:
    """One way to forecast. `fit(values, season, horizon)` takes values (time,) without gaps; it may raise."""

    name: str  # as a remark calls it
    fit: Callable[[Array, int, int], Normal]


class Statistical:
    """Forecasts each channel by the first of its `methods` that gives a sane forecast, else by seasonal naive."""

    methods: ClassVar[tuple[Method, ...]]
    shortest: ClassVar[int]  # observations that the first method needs

    def __init__(self, max_context: int) -> None:
        self._max_context = max_context

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        """Nothing to read."""
        return cls(card.max_context)

    def predict(self, batch: Batch) -> BatchForecast:
        """Forecast every series of `batch`, one channel by itself."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of the library's optimisers: what matters is checked below
            return BatchForecast(tuple(self._forecast(series) for series in batch.series))

    def close(self) -> None:
        """Nothing to give back."""

    def _forecast(self, series: Series) -> SeriesForecast | SeriesFailure:
        channels: list[Normal] = []
        reasons: dict[str, list[int]] = defaultdict(list)
        for i, row in enumerate(series.target):
            try:
                normal, reason = self._channel(row, series)
            except Exception:  # the library raises whatever it meets; neighbours must not suffer
                return SeriesFailure(f"{self.methods[0].name} failed on this series.")
            channels.append(normal)
            if reason:
                reasons[reason].append(i)
        point = np.stack([normal.mean for normal in channels], axis=1)
        deviation = np.stack([normal.deviation for normal in channels], axis=1)
        return SeriesForecast(
            point=point,
            quantiles=normal_quantiles(point, deviation, series.levels),
            remarks=tuple(_fallback(reason, where, len(channels)) for reason, where in reasons.items()),
        )

    def _channel(self, row: Array, series: Series) -> tuple[Normal, str]:
        """The forecast of one channel, and why it is not the first method's, or ""."""
        values = filled(without_leading_gap(row[-self._max_context :]))
        season = usable_season(values, series.season)
        if np.ptp(values) <= SAME * np.abs(values).max():
            return _naive(values, season, series.horizon), ""  # nothing moves: every model would say the same
        chosen = self.methods[0].name
        if len(values) < self.shortest:
            reason = f"{chosen} needs {self.shortest} observations"
            return _naive(values, season, series.horizon), f"{reason}; the seasonal naive method was used."
        reason = ""
        for method in self.methods:
            try:
                normal = _in_modest_units(method.fit, values, season, series.horizon)
            except Exception:
                reason = reason or f"{chosen} could not be fitted"
                continue
            if not _runs_away(normal, values):
                return normal, f"{reason}; {method.name} was used." if reason else ""
            reason = reason or f"{chosen} ran away over this horizon"
        return _naive(values, season, series.horizon), f"{reason}; the seasonal naive method was used."


def _fallback(reason: str, channels: list[int], total: int) -> Remark:
    plural = "s" * (len(channels) > 1)
    where = f"Channel{plural} {', '.join(map(str, channels))}: " if total > 1 else ""
    return Remark("fallback", detail=where + reason)


def _naive(values: Array, season: int, horizon: int) -> Normal:
    mean, deviation = repeat_season([values], season, horizon)
    return Normal(mean[0], deviation[0])


def _runs_away(normal: Normal, values: Array) -> bool:
    """Whether a forecast moves in a way that its context (time,) never did.

    Models with multiplicative errors, and those that difference twice, can end orders of magnitude away.
    """
    steps = np.arange(1, len(normal.mean) + 1)
    reach = np.ptp(values) + steps * np.abs(np.diff(values)).max()
    sane = (np.abs(normal.mean - values[-1]) <= 2 * reach) & (normal.deviation <= reach)
    return not bool(sane.all())  # NaN is not sane


def _in_modest_units(fit: Callable[[Array, int, int], Normal], values: Array, season: int, horizon: int) -> Normal:
    largest = np.abs(values).max()
    if MODEST[0] <= largest <= MODEST[1]:
        return fit(values, season, horizon)
    unit = 10.0 ** np.floor(np.log10(largest))
    normal = fit(values / unit, season, horizon)
    return Normal(normal.mean * unit, normal.deviation * unit)


def _without_long_season(fit: Callable[[Array, int, int], Normal]) -> Callable[[Array, int, int], Normal]:
    """`fit`, after a season over LONGEST_SEASON is taken out. The last season's pattern repeats, as if certain."""

    def adjusted(values: Array, season: int, horizon: int) -> Normal:
        if season <= LONGEST_SEASON:
            return fit(values, season, horizon)
        pattern = mstl(values, season)["seasonal"].to_numpy()
        normal = fit(values - pattern, 1, horizon)
        return Normal(normal.mean + np.resize(pattern[-season:], horizon), normal.deviation)

    return adjusted


# -- exponential smoothing ---


@_without_long_season
def _ets(values: Array, season: int, horizon: int) -> Normal:
    return _smoothing(library.AutoETS(season_length=season), values, horizon)


@_without_long_season
def _additive_ets(values: Array, season: int, horizon: int) -> Normal:
    components = "AZA" if season > 1 else "AZN"
    return _smoothing(library.AutoETS(season_length=season, model=components), values, horizon)


def _smoothing(model: library.AutoETS, values: Array, horizon: int) -> Normal:
    fitted = model.fit(values).model_
    mean = np.asarray(model.predict(horizon)["mean"], dtype=np.float64)
    error, _, season, damping = fitted["components"]
    level, trend, seasonal, damped = np.nan_to_num(fitted["par"][:4])
    period = int(fitted["m"]) if season != "N" else 1
    factors = np.ones(horizon)
    if season == "M":
        # The last states of the season stand newest first: the next step's factor is the oldest.
        factors = np.resize(fitted["states"][-1][-period:][::-1], horizon)
    parameters = Smoothing(
        level=level,
        trend=trend,
        seasonal=seasonal,
        damping=damped if damping == "D" else 1.0,
        period=period,
        multiplicative_error=error == "M",
        variance=fitted["sigma2"],
    )
    return Normal(mean, smoothing_deviation(parameters, mean, factors))


# -- theta ---


def _theta(values: Array, season: int, horizon: int) -> Normal:
    return _theta_lines(library.AutoTheta(season_length=season), values, season, horizon)


def _dynamic_theta(values: Array, season: int, horizon: int) -> Normal:
    return _theta_lines(library.DynamicOptimizedTheta(season_length=season), values, season, horizon)


def _theta_lines(model: library.AutoTheta, values: Array, season: int, horizon: int) -> Normal:
    fitted = model.fit(values).model_
    mean = np.asarray(model.predict(horizon)["mean"], dtype=np.float64)
    adjusted, factors = values, np.ones(horizon)
    if fitted.get("decompose", False):
        pattern = np.asarray(fitted["seas_forecast"]["mean"])  # begins with the step after the last
        past = np.resize(pattern[::-1], len(values))[::-1]
        multiplicative = fitted["decomposition_type"] == "multiplicative"
        adjusted = values / past if multiplicative else values - past
        factors = np.resize(pattern, horizon) if multiplicative else factors
    # The last column holds the one-step forecasts; the first three are the start, which is not forecast.
    errors = (adjusted - fitted["states"][:, -1])[3:]
    kind, level, theta = fitted["modeltype"], fitted["par"]["alpha"], fitted["par"]["theta"]
    free = 3 if kind in ("OTM", "DOTM") else 2  # start and smoothing of the level, and theta where optimised
    parameters = Theta(
        level=level,
        theta=theta,
        dynamic=kind in ("DSTM", "DOTM"),
        observations=len(values),
        variance=float(errors @ errors) / max(len(errors) - free, 1),
    )
    return Normal(mean, factors * theta_deviation(parameters, horizon))


# -- ARIMA ---

BAND = 80  # per cent; any would do, the deviation is read from its width


@_without_long_season
def _arima(values: Array, season: int, horizon: int) -> Normal:
    return _autoregressive(_arima_model(season), values, horizon)


@_without_long_season
def _once_differenced_arima(values: Array, season: int, horizon: int) -> Normal:
    return _autoregressive(_arima_model(season, max_d=1), values, horizon)


def _arima_model(season: int, max_d: int = 2) -> library.AutoARIMA:
    # Chosen among thirty models by sums of squares, with one seasonal term of each kind, then fitted by
    # likelihood: 0.4 s a series of 144 where the library's own search takes 3. Its time has no bound that a
    # caller could wait for, 58 s for one series of 512 hours, and on M3's months it gains 0.5% of MASE.
    return library.AutoARIMA(season_length=season, approximation=True, nmodels=30, max_P=1, max_Q=1, max_d=max_d)


def _autoregressive(model: library.AutoARIMA, values: Array, horizon: int) -> Normal:
    forecast = model.fit(values).predict(horizon, level=[BAND])
    width = forecast[f"hi-{BAND}"] - forecast[f"lo-{BAND}"]
    deviation = width / (2 * NormalDist().inv_cdf(0.5 + BAND / 200))
    return Normal(np.asarray(forecast["mean"], dtype=np.float64), np.asarray(deviation, dtype=np.float64))


# -- the models ---


class AutoETS(Statistical):
    """Exponential smoothing: error, trend and season chosen by AICc."""

    methods = (Method("AutoETS", _ets), Method("AutoETS with additive components", _additive_ets))
    shortest = 7


class AutoTheta(Statistical):
    """The theta model of four that fits best."""

    methods = (Method("AutoTheta", _theta),)
    shortest = 6


class DynamicTheta(Statistical):
    """The dynamic optimised theta model: one of AutoTheta's four, at a quarter of the time."""

    methods = (Method("the dynamic optimised theta model", _dynamic_theta),)
    shortest = 6


class AutoARIMA(Statistical):
    """ARIMA with orders chosen stepwise by AICc."""

    methods = (Method("AutoARIMA", _arima), Method("AutoARIMA differenced once", _once_differenced_arima))
    shortest = 6
