"""adapters.loading: from a card to an adapter, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec
import pytest

from adapters.base import Batch, BatchForecast, Device
from adapters.copula import CopulaSampling
from adapters.covariates import InContextRegression
from adapters.loading import load
from catalog.card import Covariates, Licence, ModelCard, Sampling

CARD = ModelCard(
    id="test/echo",
    title="Echo",
    family="test",
    adapter=f"{__name__}:Echo",
    licence=Licence(id="MIT"),
    max_context=16,
    max_horizon=16,
    covariates=Covariates(future="ignored"),
)


class Echo:
    """Remembers what it was loaded with."""

    def __init__(self, folders: Mapping[str, Path], device: Device) -> None:
        self.folders = folders
        self.device = device

    @classmethod
    def load(cls, card: ModelCard, folders: Mapping[str, Path], device: Device) -> Self:
        return cls(folders, device)

    def predict(self, batch: Batch) -> BatchForecast:
        return BatchForecast(())

    def close(self) -> None:
        pass


def test_the_class_gets_the_folders_and_the_device() -> None:
    folders, device = {"model": Path("weights")}, Device(threads=3)

    adapter = load(CARD, folders, device)

    assert isinstance(adapter, Echo)
    assert adapter.folders == folders
    assert adapter.device == device


def test_a_card_with_regression_gets_the_wrapper() -> None:
    card = msgspec.structs.replace(CARD, covariates=Covariates(future="regression"))

    assert isinstance(load(card, {}, Device()), InContextRegression)


def test_a_card_with_copula_gets_its_sampler() -> None:
    card = msgspec.structs.replace(CARD, sampling=Sampling(copula=True))

    assert isinstance(load(card, {}, Device()), CopulaSampling)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (None, "names no adapter"),
        ("adapters.base", "names no adapter"),
        ("adapters.no_such_family:Model", "cannot be imported"),
        ("adapters.base:NoSuchClass", "has no adapter class NoSuchClass"),
        ("adapters.base:describe", "has no adapter class describe"),
    ],
)
def test_a_card_without_a_usable_class_is_a_value_error(name: str | None, sentence: str) -> None:
    card = msgspec.structs.replace(CARD, adapter=name)

    with pytest.raises(ValueError, match=sentence):
        load(card, {}, Device())
