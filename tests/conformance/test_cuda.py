"""The lean paths on a GPU: graphs against the same kernels launched one by one, and against the CPU.

TF32 keeps 10 bits of a float32's 23 in products, bfloat16 keeps 7 everywhere; a forecast by either may differ from
that in float32 by the design's measure of 1e-2 and 1e-1, in small models with attention far from uniform.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters.base import Adapter, Array, Batch, Device, Series, SeriesForecast
from adapters.cuda_graphs import CudaCapture, Function, Graphs, Replay
from adapters.loading import load
from catalog.card import CARDS, load_cards
from tests.checkpoints import Sample, build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

GPU = "cuda:0"
FAMILIES = ("amazon/chronos-bolt-tiny", "google/timesfm-2.5-200m-pytorch")
DECILES = tuple(round(0.1 * i, 1) for i in range(1, 10))
# Alone, around a patch, with whole patches missing, and over one block of steps.
SHAPES = ((1, 5), (31, 64), (32, 1), (100, 24), (200, 24), (255, 64), (256, 100), (256, 150))


@pytest.fixture(scope="module", params=FAMILIES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    card = next(card for card in load_cards(CARDS) if card.id == request.param)
    return build(card, tmp_path_factory.mktemp(card.family))


@pytest.fixture(autouse=True)
def _full_precision_after() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


def opened(sample: Sample, device: Device) -> Adapter:
    return load(sample.card, sample.folders, device)


def batch() -> list[Series]:
    generator = np.random.default_rng(0)
    rows = [generator.standard_normal(length).cumsum() for length, _ in SHAPES]
    rows[4][20:120] = np.nan
    return [
        Series(target=row[None], horizon=horizon, levels=DECILES)
        for row, (_, horizon) in zip(rows, SHAPES, strict=True)
    ]


def quantiles(adapter: Adapter, series: list[Series]) -> list[Array]:
    found = adapter.predict(Batch(tuple(series))).series
    assert all(isinstance(one, SeriesForecast) for one in found)
    return [one.quantiles for one in found if isinstance(one, SeriesForecast)]


def difference(found: list[Array], expected: list[Array], series: list[Series]) -> float:
    """The design's measure, the largest of all series."""
    gaps = []
    for one, ours, theirs in zip(series, found, expected, strict=True):
        size = max(float(np.abs(theirs).max()), float(np.nanstd(one.target)), 1e-6)
        gaps.append(float(np.abs(ours - theirs).max()) / size)
    return max(gaps)


def test_a_gpu_forecasts_what_a_cpu_does(sample: Sample) -> None:
    expected = quantiles(opened(sample, Device()), batch())
    adapter = opened(sample, Device(name=GPU))
    for _ in range(3):  # the first call captures, the others replay
        assert difference(quantiles(adapter, batch()), expected, batch()) < 1e-4


def test_a_series_alone_is_itself_in_any_batch(sample: Sample) -> None:
    adapter = opened(sample, Device(name=GPU))
    series = batch()
    together = quantiles(adapter, series)
    alone = [quantiles(adapter, [one])[0] for one in series]
    assert difference(together, alone, series) < 1e-4
    turned = quantiles(adapter, series[::-1])[::-1]
    assert difference(turned, alone, series) < 1e-4


@pytest.mark.parametrize(
    ("device", "tolerance"), [(Device(name=GPU, tf32=True), 1e-2), (Device(name=GPU, dtype="bfloat16"), 1e-1)]
)
def test_less_precise_numbers_are_near(sample: Sample, device: Device, tolerance: float) -> None:
    expected = quantiles(opened(sample, Device()), batch())
    assert difference(quantiles(opened(sample, device), batch()), expected, batch()) < tolerance


def test_a_second_call_replays_what_the_first_captured() -> None:
    captured: list[tuple[int, ...]] = []
    launched: list[bool] = []
    inner = CudaCapture(torch.device(GPU))

    def capture(function: Function, inputs: list[Tensor], constants: tuple[object, ...]) -> Replay:
        captured.append(tuple(inputs[0].shape))
        return inner(function, inputs, constants)

    def squared(x: Tensor) -> tuple[Tensor, ...]:
        launched.append(torch.cuda.is_current_stream_capturing())
        return (x * x,)

    graphs = Graphs(squared, torch.device(GPU), capture)  # type: ignore[arg-type]
    assert graphs([torch.arange(4.0)])[0].tolist() == [0, 1, 4, 9]
    assert launched.pop()  # the last run of all was the capture's
    launched.clear()
    first, second = graphs([torch.full((4,), 3.0)])[0], graphs([torch.full((4,), 5.0)])[0]
    assert (first.tolist(), second.tolist()) == ([9.0] * 4, [25.0] * 4)  # and no later call writes over an answer
    assert (captured, launched) == ([(4,)], [])


def test_a_function_that_looks_at_a_number_runs_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    def halved_if_large(x: Tensor) -> tuple[Tensor, ...]:
        return (x / 2 if x.max().item() > 1 else x,)

    graphs = Graphs(halved_if_large, torch.device(GPU))
    assert [graphs([torch.full((2,), value)])[0].tolist() for value in (4.0, 1.0)] == [[2.0] * 2, [1.0] * 2]
    assert len(caplog.records) == 1
