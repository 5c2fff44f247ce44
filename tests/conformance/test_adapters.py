"""Every adapter over one suite: the packaged cards with a small checkpoint in `tests.checkpoints`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from adapters.base import Device
from adapters.loading import load
from catalog.card import ModelCard
from tests.checkpoints import build, representatives
from tests.conformance.checks import CHECKS, Check, Subject

Subjects = Callable[[ModelCard], Subject]


@pytest.fixture(scope="module")
def subject_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subjects]:
    """Loads the small model of a card once for all checks."""
    loaded: dict[str, Subject] = {}

    def subject(card: ModelCard) -> Subject:
        if card.id not in loaded:
            sample = build(card, tmp_path_factory.mktemp(card.family))
            adapter = load(sample.card, sample.folders, Device())
            loaded[card.id] = Subject(sample.card, adapter, sample.reference)
        return loaded[card.id]

    yield subject
    for one in loaded.values():
        one.adapter.close()


CASES = [
    pytest.param(card, check, id=f"{card.id.rsplit('/')[-1]}-{check.name}")
    for card in representatives()
    for check in CHECKS
    if check.applies(card)
]


@pytest.mark.parametrize(("card", "check"), CASES)
def test_conformance(subject_of: Subjects, card: ModelCard, check: Check) -> None:
    check.run(subject_of(card))
