"""Graphs of a network's pass: all that is decided without a GPU, with captures that replay on the CPU."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from adapters.base import Array, Device
from adapters.checkpoint import Checkpoint
from adapters.chronos_bolt.checkpoint import known_config
from adapters.chronos_bolt.graphed import GRAPH_TOKENS as BOLT_TOKENS
from adapters.chronos_bolt.graphed import GraphedBolt
from adapters.chronos_bolt.lean import LeanBolt
from adapters.cuda_graphs import Function, Graphs, Replay, bucket, padded
from adapters.timesfm.network import Network, Sizes
from adapters.timesfm.timesfm25 import GRAPH_TOKENS, LeanForecaster
from tests.checkpoints import chronos_bolt, timesfm_2_5

CPU = torch.device("cpu")


class Recorder:
    """Captures as a GPU does: what a replay reads stands where the capture put it, and in its shapes alone."""

    def __init__(self, refuse: bool = False) -> None:
        self.captured: list[tuple[int, ...]] = []  # shape of the first input of each capture
        self.replayed = 0
        self._refuse = refuse

    def __call__(self, function: Function, inputs: Sequence[Tensor], constants: tuple[Hashable, ...]) -> Replay:
        self.captured.append(tuple(inputs[0].shape))
        if self._refuse:
            raise RuntimeError("operation not permitted when stream is capturing")
        held = [tensor.clone() for tensor in inputs]

        def replay(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            self.replayed += 1
            for own, new in zip(held, given, strict=True):
                assert own.shape == new.shape
                own.copy_(new)
            return function(*held, *constants)

        return replay


def doubled(x: Tensor, times: int) -> tuple[Tensor, ...]:
    return (x * 2 * times,)


def test_a_bucket_is_powers_of_two_within_the_most() -> None:
    found = {(rows, tokens): bucket(rows, tokens, 64) for rows in (1, 3, 8, 9) for tokens in (1, 7, 8)}
    assert found[1, 1] == (1, 1)
    assert found[3, 7] == (4, 8)
    assert found[8, 8] == (8, 8)
    assert found[9, 1] == (16, 1)
    assert found[9, 7] is None


def test_padding_stands_behind_rows_and_tokens() -> None:
    tokens = torch.ones(2, 3, 4)
    assert padded(tokens, (2, 3)) is tokens
    wide = padded(tokens, (4, 8))
    assert wide.shape == (4, 8, 4)
    assert torch.equal(wide[:2, :3], tokens)
    assert wide.sum() == tokens.sum()
    assert padded(torch.tensor([5, 6]), (4,), value=1).tolist() == [5, 6, 1, 1]


def test_a_kind_is_captured_once_and_then_replayed() -> None:
    record = Recorder()
    graphs = Graphs(doubled, CPU, record)
    for value in (1.0, 2.0, 3.0):
        assert graphs([torch.full((2, 3), value)], 1)[0].tolist() == [[2 * value] * 3] * 2
    assert (len(record.captured), record.replayed) == (1, 3)
    graphs([torch.ones(2, 3)], 5)  # another constant,
    graphs([torch.ones(4, 3)], 1)  # another shape,
    graphs([torch.ones(2, 3, dtype=torch.float64)], 1)  # another type
    assert len(record.captured) == 4


def test_the_kind_that_waited_longest_goes_first() -> None:
    record = Recorder()
    graphs = Graphs(doubled, CPU, record, most=2)
    for rows in (1, 2, 1, 3, 1, 2):  # 3 displaces 2, and 2 then 3
        graphs([torch.ones(rows, 1)], 1)
    assert [shape[0] for shape in record.captured] == [1, 2, 3, 2]


def test_what_cannot_be_captured_runs_without_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    record = Recorder(refuse=True)
    graphs = Graphs(doubled, CPU, record)
    assert [graphs([torch.ones(1)], 3)[0].item() for _ in range(2)] == [6.0, 6.0]
    assert len(record.captured) == 1
    assert [r.message for r in caplog.records] == [
        "no CUDA graph for inputs of 1: operation not permitted when stream is capturing"
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timesfm")
    timesfm_2_5.write(folder)
    return folder


def opened(folder: Path, device: str) -> Network:
    tensors = load_file(folder / "model.safetensors")
    sizes = Sizes.of(tensors, outputs=10)
    assert sizes is not None
    return Network(tensors, sizes, device, torch.float32)


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return opened(folder, "cpu")


def walks(*lengths: int) -> list[Array]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(length).cumsum() for length in lengths]


@pytest.mark.parametrize("lengths", [(200,), (31, 500, 96), (33, 64, 65, 70, 300)])
@pytest.mark.parametrize("horizon", [1, 24, 128])
def test_timesfm_by_graph_is_timesfm(network: Network, lengths: tuple[int, ...], horizon: int) -> None:
    """Rows and tokens of padding change no number of the others, and every horizon of one pass shares a graph."""
    record = Recorder()
    by_graph = LeanForecaster(network, 5, Graphs(network.ahead, CPU, record))
    plain = LeanForecaster(network, 5)
    expected = plain.forecast(walks(*lengths), horizon)
    for _ in range(2):
        np.testing.assert_allclose(by_graph.forecast(walks(*lengths), horizon), expected, rtol=1e-5, atol=1e-4)
    by_graph.forecast(walks(*lengths), 7)
    assert (len(record.captured), record.replayed) == (1, 3)


def test_timesfm_looks_at_no_number_of_what_a_graph_would_hold(folder: Path) -> None:
    """Tensors of the device "meta" have shapes and no numbers: reading one raises, as it does while capturing."""
    with pytest.raises(RuntimeError):
        bool(torch.empty(1, device="meta").any())
    tokens, counts = torch.empty(4, 8, 64, device="meta"), torch.empty(4, dtype=torch.int64, device="meta")
    point, fan = opened(folder, "meta").ahead(tokens, counts, 128)
    assert point.shape == fan.shape == (4, 128, 10)


def test_timesfm_leaves_large_passes_and_long_horizons_as_they_are(network: Network) -> None:
    record = Recorder()
    by_graph = LeanForecaster(network, 5, Graphs(network.ahead, CPU, record))
    plain = LeanForecaster(network, 5)
    many = walks(*[64] * (GRAPH_TOKENS // 4 + 1))  # two tokens each, upright and upside down
    for rows, horizon in ((many, 24), (walks(100), 200)):
        np.testing.assert_allclose(
            by_graph.forecast(rows, horizon), plain.forecast(rows, horizon), rtol=1e-5, atol=1e-4
        )
    assert record.captured == []


@pytest.fixture(scope="module")
def bolt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bolt")
    chronos_bolt.write(folder)
    return folder


def lean(folder: Path, device: str) -> LeanBolt:
    config = known_config(folder)
    assert config is not None
    return LeanBolt(config, Checkpoint(folder), device, "float32")


@pytest.fixture(scope="module")
def bolt(bolt_folder: Path) -> LeanBolt:
    return lean(bolt_folder, "cpu")


@pytest.mark.parametrize(("rows", "steps", "gap"), [(1, 64, False), (3, 100, False), (5, 128, True), (8, 30, True)])
def test_chronos_bolt_by_graph_is_chronos_bolt(bolt: LeanBolt, rows: int, steps: int, gap: bool) -> None:
    """Padding to the left is a gap, rows of padding are not; the first block of every horizon shares a graph."""
    record = Recorder()
    by_graph = GraphedBolt(bolt, Graphs(bolt.ahead, CPU, record))
    context = torch.from_numpy(np.stack(walks(*[steps] * rows))).float()
    if gap:
        context[0, : steps // 2] = np.nan
    for horizon in (bolt.block, 5):
        torch.testing.assert_close(
            by_graph.predict(context, horizon), bolt.predict(context, horizon), rtol=1e-5, atol=1e-4
        )
    assert (len(record.captured), record.replayed) == (1, 2)


@pytest.mark.parametrize("gaps", [False, True])
def test_chronos_bolt_looks_at_no_number_of_what_a_graph_would_hold(bolt_folder: Path, gaps: bool) -> None:
    model = lean(bolt_folder, "meta")
    (block,) = model.ahead(torch.empty(4, 128, device="meta"), gaps)
    assert block.shape == (4, len(model.levels), model.block)


def test_chronos_bolt_leaves_large_passes_and_long_horizons_as_they_are(bolt: LeanBolt) -> None:
    record = Recorder()
    by_graph = GraphedBolt(bolt, Graphs(bolt.ahead, CPU, record))
    for rows, horizon in ((BOLT_TOKENS + 1, 5), (2, bolt.block + 1)):
        context = torch.from_numpy(np.stack(walks(*[16] * rows))).float()
        assert torch.equal(by_graph.predict(context, horizon), bolt.predict(context, horizon))
    assert record.captured == []


def test_a_device_says_what_its_numbers_are() -> None:
    assert Device().label == "cpu"
    assert Device(name="cuda:1").label == "cuda:1"
    assert Device(name="cuda:0", tf32=True).label == "cuda:0 in TF32"
    assert Device(name="cuda:0", dtype="bfloat16").label == "cuda:0 in bfloat16"
    assert Device(tf32=True).label == "cpu"  # a CPU has none


def test_a_gpus_precision_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters import cuda_graphs

    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    before = torch.get_float32_matmul_precision()
    try:
        for name, tf32, expected in (("cuda:1", True, "high"), ("cuda", False, "highest")):
            cuda_graphs.prepare(Device(name=name, tf32=tf32))
            assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)
    assert chosen == [torch.device("cuda:1")]
