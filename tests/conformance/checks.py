"""What every adapter has to do, as checks that take any adapter: the suite runs them, and so do the mutants.

A check raises AssertionError. It sees an adapter as the engine does, loaded by `adapters.loading`, with in-context
regression around it where the card says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from adapters.base import Adapter, Array, Batch, Sampling, Series, SeriesFailure, SeriesForecast
from catalog.card import ModelCard
from tests.checkpoints import Reference

DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
SAME = 1e-4  # the promise: batch neighbours, padding and upstream change a forecast by less
LIVELY = 1e-2  # what another input changes at least


@dataclass(frozen=True, slots=True)
class Subject:
    """A loaded adapter with its card and, for a model with weights, what the upstream library says."""

    card: ModelCard
    adapter: Adapter
    reference: Reference | None

    @property
    def levels(self) -> tuple[float, ...]:
        """The trained levels, or deciles of a model that computes any."""
        return self.card.quantile_levels or DECILES

    def ask(self, *rows: Array, horizon: int = 8, levels: Sequence[float] | None = None) -> Series:
        """A series of one channel a row, and of further ones like the last where the model needs more.

        Its calendar, where the model reads one, is hourly and has the first forecast step at one time for every length.
        """
        needed = len(self.card.required_channels) - len(rows)
        target = np.stack([*rows, *(rows[-1] * (1 + 0.1 * i) for i in range(1, needed + 1))])
        stamps = 3600 * np.arange(-target.shape[1], horizon) + 1_700_000_000
        return Series(
            target=target,
            horizon=horizon,
            levels=self.levels if levels is None else tuple(levels),
            season=4,
            stamps=stamps if self.card.calendar_features else None,
        )

    def forecast(self, *series: Series) -> list[SeriesForecast]:
        """One forecast a series; a failure fails the check."""
        answers = self.adapter.predict(Batch(series)).series
        assert len(answers) == len(series), f"{len(answers)} answers for {len(series)} series"
        forecasts = [one for one in answers if isinstance(one, SeriesForecast)]
        assert len(forecasts) == len(series), [one for one in answers if isinstance(one, SeriesFailure)]
        return forecasts

    def quantiles(self, series: Series) -> Array:
        """(levels, horizon, channels) of `series` alone."""
        return self.forecast(series)[0].quantiles


def wave(length: int, seed: int = 0) -> Array:
    """A season of four steps, a slow swing and noise around ten; (length,)."""
    steps = np.arange(length)
    noise = np.random.default_rng(seed).normal(size=length)
    row: Array = 10 + seed + 2 * np.sin(np.pi * steps / 2) + 3 * np.sin(steps / (7 + seed)) + noise
    return row


def holed(row: Array) -> Array:
    """`row` with single values missing and a gap in the middle that is longer than a patch where there is room."""
    out = row.copy()
    out[1::5] = np.nan
    out[len(row) // 3 : len(row) // 3 + min(40, len(row) // 3)] = np.nan
    return out


def difference(found: Array, expected: Array, context: Array) -> float:
    """The design's measure: max |a - b| / max(|b|, standard deviation of the context, 1e-6)."""
    if found.size == 0:
        return 0.0
    floor = max(float(np.nanstd(context)), 1e-6)
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), floor)).max())


def assert_same(found: SeriesForecast, expected: SeriesForecast, series: Series) -> None:
    assert difference(found.quantiles, expected.quantiles, series.target) < SAME
    assert difference(found.point, expected.point, series.target) < SAME


# --- shape, order, levels --------------------------------------------------------------------------------


def answers_have_the_shape_asked(subject: Subject) -> None:
    for horizon, channels, levels in ((1, 1, ()), (7, 3, subject.levels), (subject.card.max_horizon, 1, (0.5,))):
        series = subject.ask(*[wave(40, seed) for seed in range(channels)], horizon=horizon, levels=levels)
        (found,) = subject.forecast(series)
        assert found.point.shape == (horizon, len(series.target))
        assert found.quantiles.shape == (len(levels), horizon, len(series.target))
        assert np.isfinite(found.point).all() and np.isfinite(found.quantiles).all()


def an_empty_batch_has_an_empty_answer(subject: Subject) -> None:
    assert subject.adapter.predict(Batch(())).series == ()


def quantiles_never_cross(subject: Subject) -> None:
    low, high = (0.01, 0.99) if subject.card.tails != "refuse" else (subject.levels[0], subject.levels[-1])
    levels = np.linspace(low, high, 41).round(4).tolist()
    for row in (wave(5), wave(40), wave(60, 1) * 1e6):
        quantiles = subject.quantiles(subject.ask(row, horizon=subject.card.max_horizon, levels=levels))
        assert all((above >= below).all() for below, above in pairwise(quantiles))
        assert (quantiles[-1] > quantiles[0]).any()


def a_level_does_not_depend_on_the_others_asked(subject: Subject) -> None:
    every = subject.forecast(subject.ask(wave(40)))[0]
    for i in (0, len(subject.levels) - 1):
        assert np.array_equal(
            subject.quantiles(subject.ask(wave(40), levels=[subject.levels[i]])), every.quantiles[[i]]
        )
    if subject.card.point == "median":
        median = subject.quantiles(subject.ask(wave(40), levels=[0.5]))[0]
        assert np.array_equal(every.point, median)


def outer_levels_lie_outside(subject: Subject) -> None:
    quantiles = subject.quantiles(subject.ask(wave(40), levels=[0.005, 0.02, 0.5, 0.98, 0.995]))
    for below, above in pairwise(quantiles):
        assert (above >= below).all()
        assert (above > below).any(), "a library's clamping was passed on"


# --- one row, whatever stands beside it ------------------------------------------------------------------


def a_row_alone_is_the_row_in_a_batch_of_64_others(subject: Subject) -> None:
    # Most are short, so that a fit of each stays cheap; two fill the context.
    lengths = np.exp(np.random.default_rng(5).uniform(np.log(2), np.log(32), size=62)).astype(int).tolist()
    batch = [
        subject.ask(wave(n, i % 5), horizon=1 + i % 12) for i, n in enumerate(lengths + 2 * [subject.card.max_context])
    ]
    mine = {0: subject.ask(wave(3)), 31: subject.ask(wave(40, 1)), 66: subject.ask(holed(wave(47)))}
    for place, series in mine.items():
        batch.insert(place, series)
    together = subject.forecast(*batch)
    for place, series in mine.items():
        assert_same(together[place], subject.forecast(series)[0], series)


def answers_stand_in_the_order_of_the_series(subject: Subject) -> None:
    batch = [subject.ask(wave(n, seed), horizon=3 + seed) for seed, n in enumerate((30, 9, 47, 18, 30, 2))]
    forecasts = subject.forecast(*batch)
    order = [3, 0, 5, 1, 4, 2]
    for place, found in zip(order, subject.forecast(*[batch[i] for i in order]), strict=True):
        assert_same(found, forecasts[place], batch[place])


def channels_stay_apart_and_in_order(subject: Subject) -> None:
    rows = [wave(40), wave(40, 3) * 5, holed(wave(40, 2))]
    (together,) = subject.forecast(subject.ask(*rows))
    for channel, row in enumerate(rows):
        series = subject.ask(row)
        (alone,) = subject.forecast(series)
        mine = SeriesForecast(point=together.point[:, [channel]], quantiles=together.quantiles[..., [channel]])
        assert_same(mine, alone, series)


# --- contexts of every kind ------------------------------------------------------------------------------


def another_context_has_another_forecast(subject: Subject) -> None:
    row = wave(40)
    bent = row.copy()
    bent[-1] += 3 * row.std()
    for other in (wave(40, 1), bent):
        assert difference(subject.quantiles(subject.ask(other)), subject.quantiles(subject.ask(row)), row) > LIVELY


def a_leading_gap_changes_nothing(subject: Subject) -> None:
    row = wave(24)
    for gap in (4, 48):
        padded = subject.ask(np.concatenate([np.full(gap, np.nan), row]))
        assert_same(subject.forecast(padded)[0], subject.forecast(subject.ask(row))[0], padded)


def a_long_context_is_its_last_steps(subject: Subject) -> None:
    limit = subject.card.max_context
    row = wave(2 * limit + 3)
    row[:-limit] += 50
    series = subject.ask(row)
    assert_same(subject.forecast(series)[0], subject.forecast(subject.ask(row[-limit:]))[0], series)


def a_missing_value_is_not_a_zero(subject: Subject) -> None:
    for length in (12, 60, subject.card.max_context):
        row = holed(wave(length))
        quantiles = subject.quantiles(subject.ask(row))
        assert np.isfinite(quantiles).all()
        zeros = subject.quantiles(subject.ask(np.nan_to_num(row)))
        assert difference(quantiles, zeros, row) > LIVELY


def a_constant_has_a_forecast(subject: Subject) -> None:
    for value in (0.0, 5.0, -3e7):
        (found,) = subject.forecast(subject.ask(np.full(30, value)))
        assert np.isfinite(found.quantiles).all() and np.isfinite(found.point).all()
        if not subject.card.weights:  # nothing was learnt that could say otherwise
            assert np.allclose(found.point, value)


def one_observation_has_a_forecast(subject: Subject) -> None:
    for row in (np.array([7.0]), np.array([np.nan, np.nan, 7.0]), np.array([7.0, np.nan])):
        (found,) = subject.forecast(subject.ask(row, horizon=subject.card.max_horizon))
        assert np.isfinite(found.quantiles).all() and np.isfinite(found.point).all()


def a_short_horizon_is_the_start_of_a_long_one(subject: Subject) -> None:
    row = wave(40)
    native, longest = subject.card.native_horizon or 16, subject.card.max_horizon
    horizons = (1, 2, native - 1, native, native + 1, longest - 1)
    if subject.card.joint_steps:  # within one patch of them
        longest = subject.card.batching.patch
        horizons = (1, 2, longest - 1)
    quantiles = subject.quantiles(subject.ask(row, horizon=longest))
    for horizon in horizons:
        found = subject.quantiles(subject.ask(row, horizon=horizon))
        assert difference(found, quantiles[:, :horizon], row) < SAME


# --- against the upstream library ------------------------------------------------------------------------


def the_upstream_library_says_the_same(subject: Subject) -> None:
    assert subject.reference is not None
    native, longest = subject.card.native_horizon or 16, subject.card.max_horizon
    batch = [
        subject.ask(wave(5), horizon=1),
        subject.ask(wave(subject.card.max_context) * 1e6, horizon=native),
        subject.ask(holed(wave(60, 1)), horizon=native + 1),
        subject.ask(wave(33, 2) - 40, holed(wave(33, 3)) * 1e-3, horizon=7),
        subject.ask(wave(47, 4), horizon=longest),
    ]
    if subject.card.sampling.native:  # every sampler draws the likeliest where it has no choice
        batch = [replace(series, sampling=Sampling(count=2, seed=0, top_k=1)) for series in batch]
    for series, found in zip(batch, subject.forecast(*batch), strict=True):
        assert difference(found.quantiles, subject.reference(series), series.target) < SAME


# --- the caller's arrays ---------------------------------------------------------------------------------


def inputs_stay_as_they_were(subject: Subject) -> None:
    series = replace(
        subject.ask(holed(wave(40)), wave(40, 1)),
        past=wave(40, 2)[None],
        future=wave(8, 3)[None],
        known=1,
        static=np.array([1.0, 2.0]),
    )
    arrays = (series.target, series.past, series.future, series.static)
    before = [array.copy() for array in arrays]
    subject.forecast(series, subject.ask(wave(5)))
    for array, copy in zip(arrays, before, strict=True):
        assert np.array_equal(array, copy, equal_nan=True)
        array.flags.writeable = False
    subject.forecast(series)


def answers_belong_to_the_caller(subject: Subject) -> None:
    series = subject.ask(wave(40))
    (first,) = subject.forecast(series)
    kept = first.quantiles.copy()
    first.quantiles[...] = first.point[...] = -1.0
    assert np.array_equal(subject.quantiles(series), kept)


def a_series_without_observations_fails_alone(subject: Subject) -> None:
    good, empty = subject.ask(wave(40)), subject.ask(wave(40), np.full(40, np.nan))
    (alone,) = subject.forecast(good)
    answers = subject.adapter.predict(Batch((good, empty, good))).series
    assert isinstance(answers[1], SeriesFailure) or np.isnan(answers[1].quantiles).any()
    for answer in (answers[0], answers[2], *subject.forecast(good)):
        assert isinstance(answer, SeriesForecast)
        assert_same(answer, alone, good)


# --- covariates and samples ------------------------------------------------------------------------------


def covariates_move_the_forecast_where_the_card_says_so(subject: Subject) -> None:
    switch = (np.random.default_rng(1).random(48) < 0.4).astype(np.float64)
    plain = replace(subject.ask(wave(40) + 20 * switch[:40]), past=switch[None, :40], known=1)
    off = replace(plain, future=np.zeros((1, 8)))
    future = np.zeros((1, 8))
    future[0, 5] = 1.0
    (quiet,), (moved,) = subject.forecast(off), subject.forecast(replace(off, future=future))
    change = np.abs(moved.point - quiet.point)[:, 0]
    if subject.card.covariates.future == "ignored":
        assert change.max() == 0
    else:
        assert change.max() > LIVELY * plain.target.std()
        # Random weights are sensitive to a covariate, but they have not learnt at which step it acts.
        learnt = subject.card.covariates.future == "regression"
        assert not learnt or change.argmax() == 5, "the effect stands at another step than the covariate"


def covariates_that_the_card_ignores_change_nothing(subject: Subject) -> None:
    series = subject.ask(wave(40))
    (without,) = subject.forecast(series)
    uses = subject.card.covariates
    if uses.static == "ignored":
        assert_same(subject.forecast(replace(series, static=np.array([2.0, 1.0])))[0], without, series)
    if uses.past == "ignored":
        assert_same(subject.forecast(replace(series, past=wave(40, 1)[None]))[0], without, series)


def samples_follow_their_seed(subject: Subject) -> None:
    copula = not subject.card.sampling.native

    def drawn(seed: int, *neighbours: Series) -> Array:
        series = replace(subject.ask(wave(40)), sampling=Sampling(count=5, seed=seed, copula=copula))
        samples = subject.forecast(*neighbours, series)[-1].samples
        assert samples is not None and samples.shape == (5, 8, len(series.target))
        return samples

    neighbour = replace(subject.ask(wave(9, 1)), sampling=Sampling(count=5, seed=3, copula=copula))
    mine = drawn(1)
    assert np.array_equal(drawn(1), mine)
    assert not np.array_equal(drawn(2), mine)
    assert difference(drawn(1, neighbour), mine, wave(40)) < SAME


def the_same_question_has_the_same_answer(subject: Subject) -> None:
    series = subject.ask(wave(40))
    assert np.array_equal(subject.quantiles(series), subject.quantiles(series))


# --- the suite -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and whether a subject makes it."""

    run: Callable[[Subject], None]
    applies: Callable[[ModelCard], bool] = lambda card: True

    @property
    def name(self) -> str:
        return self.run.__name__


def _samples(card: ModelCard) -> bool:
    return card.sampling.native or card.sampling.copula


CHECKS = (
    Check(answers_have_the_shape_asked),
    Check(an_empty_batch_has_an_empty_answer),
    Check(quantiles_never_cross),
    Check(a_level_does_not_depend_on_the_others_asked),
    Check(outer_levels_lie_outside, lambda card: card.tails != "refuse"),
    Check(inputs_stay_as_they_were),
    Check(answers_belong_to_the_caller),
    Check(answers_stand_in_the_order_of_the_series),
    Check(channels_stay_apart_and_in_order, lambda card: not card.multivariate),
    Check(another_context_has_another_forecast),
    Check(a_leading_gap_changes_nothing, lambda card: card.missing_values != "refused"),
    Check(a_missing_value_is_not_a_zero, lambda card: card.missing_values != "refused"),
    Check(a_long_context_is_its_last_steps),
    Check(a_constant_has_a_forecast),
    Check(one_observation_has_a_forecast),
    Check(a_short_horizon_is_the_start_of_a_long_one),
    Check(covariates_move_the_forecast_where_the_card_says_so),
    Check(covariates_that_the_card_ignores_change_nothing),
    Check(samples_follow_their_seed, _samples),
    Check(the_same_question_has_the_same_answer),
    Check(a_series_without_observations_fails_alone),
    Check(the_upstream_library_says_the_same, lambda card: bool(card.weights)),
    Check(a_row_alone_is_the_row_in_a_batch_of_64_others),
)
