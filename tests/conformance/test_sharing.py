"""Weights that several processes share: the same numbers, one copy, and none of another model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.base import Adapter, Array, Batch, Device, SeriesForecast
from adapters.loading import load
from adapters.sharing import SMALLEST, share
from catalog.card import ModelCard
from gateway.engine.worker import first_series
from tests.checkpoints import Sample, build, representatives

FAMILIES = [card for card in representatives() if card.weights]


@pytest.fixture(params=FAMILIES, ids=lambda card: card.family)
def card(request: pytest.FixtureRequest) -> ModelCard:
    found: ModelCard = request.param
    return found


@pytest.fixture
def sample(card: ModelCard, tmp_path: Path) -> Sample:
    return build(card, tmp_path / "checkpoint")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An empty one."""
    found = tmp_path / "weights"
    found.touch()
    return found


def opened(sample: Sample, engine: str = "auto") -> Adapter:
    return load(sample.card, sample.folders, Device(engine=engine))


def forecast(adapter: Adapter, card: ModelCard) -> Array:
    (answer,) = adapter.predict(Batch((first_series(card),))).series
    assert isinstance(answer, SeriesForecast)
    return answer.quantiles


def mapped_bytes(file: Path) -> int:
    """How much of `file` this process has mapped."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(file)):
            start, end = (int(n, 16) for n in line.split()[0].split("-"))
            found += end - start
    return found


@pytest.mark.parametrize("engine", ["auto", "upstream"])
def test_shared_weights_compute_the_same(sample: Sample, engine: str, file: Path) -> None:
    first, second = opened(sample, engine), opened(sample, engine)
    before = forecast(first, sample.card)
    size = share(first, file)
    written = file.stat()
    assert size > SMALLEST
    assert share(second, file) == size
    assert file.stat().st_mtime_ns == written.st_mtime_ns  # the second found what it would have written
    assert mapped_bytes(file) >= 2 * size
    for adapter in (first, second):
        # Where a storage begins decides how some products are split up, and so the last digit.
        np.testing.assert_allclose(forecast(adapter, sample.card), before, rtol=1e-6)


def test_what_was_mapped_is_given_back_with_the_model(sample: Sample, file: Path) -> None:
    adapter = opened(sample)
    share(adapter, file)
    assert mapped_bytes(file)
    adapter.close()
    del adapter
    assert not mapped_bytes(file)


class Weights:
    """The least that a model can be."""

    def __init__(self, values: torch.Tensor) -> None:
        self.parts = {"all": values, "some": [values[10:20], values.view(2, -1).t()]}


def test_views_of_one_storage_stay_views_of_one(file: Path) -> None:
    model = Weights(torch.arange(5000, dtype=torch.float32))
    assert share(model, file) == 20_000
    values, (some, turned) = model.parts["all"], model.parts["some"]
    assert isinstance(values, torch.Tensor)
    assert some.tolist() == list(range(10, 20))
    assert turned.shape == (2500, 2) and turned[1].tolist() == [1.0, 2501.0]
    assert {t.untyped_storage().data_ptr() for t in (some, turned)} == {values.untyped_storage().data_ptr()}


def test_another_models_weights_are_not_taken_for_ones_own(file: Path) -> None:
    first, second = Weights(torch.zeros(5000)), Weights(torch.ones(5000))
    share(first, file)
    share(second, file)
    assert isinstance(first.parts["all"], torch.Tensor) and isinstance(second.parts["all"], torch.Tensor)
    assert first.parts["all"].sum() == 0 and second.parts["all"].sum() == 5000


def test_writing_to_a_shared_weight_changes_nobody_elses(file: Path) -> None:
    models = [Weights(torch.zeros(5000)) for _ in range(2)]
    for model in models:
        share(model, file)
    written, read = (model.parts["all"] for model in models)
    assert isinstance(written, torch.Tensor) and isinstance(read, torch.Tensor)
    written.fill_(1)
    assert read.sum() == 0 and not any(file.read_bytes())


def test_a_cut_off_file_is_written_anew(file: Path) -> None:
    file.write_bytes(b"cut off")
    assert share(Weights(torch.ones(5000)), file) == 20_000
    assert file.stat().st_size >= 20_000
    assert share(Weights(torch.ones(5000)), file) == 20_000


def test_a_file_that_is_not_there_says_so(file: Path) -> None:
    with pytest.raises(OSError):
        share(Weights(torch.ones(5000)), file.with_name("nowhere"))


def test_a_model_without_weights_shares_none(file: Path) -> None:
    assert share(Weights(torch.ones(10)), file) == 0
    assert not file.read_bytes()
