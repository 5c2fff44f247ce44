"""The training of the bundled forecaster: its data, its network, and that stopping changes nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline

from training import config as configuration
from training import state
from training.batches import Batches
from training.config import Config
from training.export import export
from training.model import build, forecast
from training.muon import orthogonal
from training.objective import objective, pinball
from training.synthetic.events import gaps
from training.synthetic.mixing import KINDS, generate
from training.train import advance


@pytest.fixture(scope="module")
def config() -> Config:
    """The shipped configuration with a small network and small batches."""
    full = configuration.load()
    model = msgspec.structs.replace(full.model, d_model=32, d_ff=64, heads=2, encoder_layers=1, context=64, horizon=16)
    data = msgspec.structs.replace(full.data, full=12, shorter=6, workers=0)
    schedule = msgspec.structs.replace(full.schedule, steps=40, warmup_steps=5)
    return msgspec.structs.replace(full, model=model, data=data, schedule=schedule)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_finite_rows_that_differ(kind: str) -> None:
    rows = KINDS[kind](np.random.default_rng(1), 40, 130)
    assert rows.shape == (40, 130)
    assert np.isfinite(rows).all()
    assert len(np.unique(rows.round(6), axis=0)) == 40


def test_a_mixture_is_standardised_and_the_same_for_a_seed(config: Config) -> None:
    data = config.data
    first, second = (generate(np.random.default_rng(3), 50, 90, data.shares, data.combined) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first.mean(axis=1), 0, atol=1e-3)
    assert first.dtype == np.float32


def test_seasons_repeat_at_their_period() -> None:
    """Without noise and change, a value comes again one period later."""
    from training.synthetic.profiles import season

    period = np.array([7, 12, 24, 48, 96, 288], dtype=np.float32)
    rows = season(np.random.default_rng(0), period, 700)
    for row, p in zip(rows, period.astype(int), strict=True):
        moved = np.abs(row[p:] - row[:-p])
        assert np.mean(moved < 0.05) > 0.97  # float32 phases may fall into the neighbouring slot


def test_gaps_take_the_share_asked_for_and_leave_the_last_value() -> None:
    rows = np.zeros((2000, 60), dtype=np.float32)
    holed = gaps(np.random.default_rng(0), rows, 0.3)
    assert np.isfinite(holed[:, -1]).all()
    assert 0.24 < np.isnan(holed).any(axis=1).mean() < 0.34
    assert np.isfinite(gaps(np.random.default_rng(0), rows, 0.0)).all()


def test_a_step_is_the_same_batch_whenever_it_is_drawn(config: Config) -> None:
    first, second, other = Batches(config)[7], Batches(config)[7], Batches(config)[8]
    for (a, b), (c, d) in zip(first, second, strict=True):
        assert torch.equal(a.nan_to_num(9), c.nan_to_num(9))
        assert torch.equal(b, d)
        assert b.shape == (len(a), config.model.horizon)
    assert first[0][0].shape[1] == config.model.context
    assert not torch.equal(first[0][1][:5], other[0][1][:5])


def test_the_lean_pass_is_the_library_s(config: Config) -> None:
    model = build(config.model, 0)
    context = torch.randn(5, 50).cumsum(1)
    context[0, :30] = torch.nan  # a whole patch unobserved
    context[1, 41] = torch.nan
    with torch.no_grad():
        values, mean, spread = forecast(model, context)
        expected = model(context).quantile_preds
    torch.testing.assert_close(values * spread[..., None] + mean[..., None], expected, rtol=1e-4, atol=1e-4)


def test_pinball_is_least_at_the_quantile() -> None:
    drawn = torch.randn(1, 20000, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.1, 0.5, 0.9])
    best = torch.quantile(drawn[0], levels)
    losses = [pinball((best + moved).view(1, 3, 1).expand(1, 3, 20000), drawn, levels) for moved in (0.0, 0.2, -0.2)]
    assert losses[0] < losses[1]
    assert losses[0] < losses[2]


def test_a_series_weight_ignores_its_scale_and_has_no_gradient() -> None:
    levels = torch.tensor([0.1, 0.5, 0.9])
    values = torch.tensor([[[-1.0], [0.0], [1.0]]], requires_grad=True)
    target = torch.tensor([[3.0]])
    loss = objective(values, target, levels, floor=0.01)
    larger = objective(values * 5, target * 5, levels, floor=0.01)
    torch.testing.assert_close(loss, larger)
    (slope,) = torch.autograd.grad(loss, values)
    torch.testing.assert_close(slope[0, :, 0], torch.tensor([-0.1, -0.5, -0.9]) * 2 / 3 / 2)


def test_orthogonal_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_stopping_and_resuming_changes_nothing(config: Config, tmp_path: Path) -> None:
    batches = Batches(config)
    straight = state.begin(config)
    for step in range(6):
        if step == 3:
            state.save(straight, tmp_path)
            again = state.begin(config)
            state.resume(again, tmp_path)
        advance(straight, batches[step], config)
    for step in range(again.step, 6):
        advance(again, batches[step], config)
    assert again.step == straight.step
    for name, p in straight.parameters().items():
        assert torch.equal(p, again.parameters()[name]), name
        assert torch.equal(straight.average[name], again.average[name]), name


def test_training_learns_a_batch(config: Config) -> None:
    training = state.begin(config)
    batch = Batches(config)[0]
    losses = [advance(training, batch, config) for _ in range(25)]
    assert losses[-1] < 0.85 * losses[0]


def test_the_shipped_configuration_fits_its_limits(tmp_path: Path) -> None:
    """The state within 16 MiB, the checkpoint within 8 MB."""
    shipped = configuration.load()
    training = state.begin(shipped)
    tiny = msgspec.structs.replace(shipped.data, full=2, shorter=2, workers=0)
    shipped = msgspec.structs.replace(shipped, data=tiny)
    advance(training, Batches(shipped)[0], shipped)
    state.save(training, tmp_path)
    assert (tmp_path / state.FILE).stat().st_size <= 16 * 2**20
    export(training, shipped, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").stat().st_size <= 8e6


def test_an_export_is_a_checkpoint_of_the_library(config: Config, tmp_path: Path) -> None:
    training = state.begin(config)
    export(training, config, tmp_path)
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path)
    assert tuple(pipeline.quantiles) == config.model.quantile_levels
    context = torch.arange(40.0).sin()[None]
    with torch.no_grad():
        values, mean, spread = forecast(training.model, context)
    expected = (values * spread[..., None] + mean[..., None])[0]
    found = pipeline.predict(context, prediction_length=config.model.horizon)[0]
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-2)  # half precision


def test_the_rate_warms_up_holds_and_falls_to_zero() -> None:
    schedule = msgspec.structs.replace(configuration.load().schedule, steps=1000, warmup_steps=100, hold=0.4)
    assert schedule.rate(0, 0) == pytest.approx(0.01)
    assert schedule.rate(300, 0) == 1.0
    assert schedule.rate(700, 0) == pytest.approx(0.5)
    assert schedule.rate(300, 60 * schedule.minutes) == 0.0
