"""Breaks every adapter in ten ways; the suite has to notice each of them.

    python -m tests.conformance.mutants [word in a model's id]

A mutant stands around a loaded adapter and bends what goes in or what comes out, the way a slip in an adapter would.
The checks of `tests.conformance.checks` then run until one fails. A mutant that survives them all fails the command,
and so does an unbroken adapter that does not pass.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import numpy as np

from adapters.base import Adapter, Array, Batch, BatchForecast, Device, Sampling, Series, SeriesFailure, SeriesForecast
from adapters.loading import load
from catalog.card import ModelCard
from tests.checkpoints import build, representatives
from tests.conformance.checks import CHECKS, Check, Subject

Answer = SeriesForecast | SeriesFailure


def same_question(batch: Batch, card: ModelCard) -> Batch:
    return batch


def same_answer(batch: Batch, answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    return answers


def always(card: ModelCard) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong: `asked` bends the batch, `answered` the forecasts."""

    name: str
    asked: Callable[[Batch, ModelCard], Batch] = same_question
    answered: Callable[[Batch, tuple[Answer, ...]], tuple[Answer, ...]] = same_answer
    not_applicable: Callable[[ModelCard], str] = always  # the reason why, or nothing


@dataclass(frozen=True, slots=True)
class Broken:
    """An adapter with one mutant around it."""

    inner: Adapter
    mutant: Mutant
    card: ModelCard

    def predict(self, batch: Batch) -> BatchForecast:
        answers = self.inner.predict(self.mutant.asked(batch, self.card)).series
        return BatchForecast(self.mutant.answered(batch, answers))

    def close(self) -> None:
        self.inner.close()


# --- what a slip does to the batch -----------------------------------------------------------------------


def padded_and_unmasked(batch: Batch, card: ModelCard) -> Batch:
    """Gaps and the padding to the longest neighbour count as zeros."""
    longest = max((one.target.shape[1] for one in batch.series), default=0)

    def unmasked(one: Series) -> Series:
        before = longest - one.target.shape[1]
        past = np.pad(one.past, ((0, 0), (before, 0))) if len(one.past) else one.past
        target = np.nan_to_num(np.pad(one.target, ((0, 0), (before, 0))))
        # A series that cannot be forecast stays so: this slip is about those that can.
        return one if np.isnan(one.target).all(axis=1).any() else replace(one, target=target, past=past)

    return Batch(tuple(map(unmasked, batch.series)))


def without_covariates(batch: Batch, card: ModelCard) -> Batch:
    none = np.empty((0, 0))
    return Batch(tuple(replace(one, past=none, future=none, static=np.empty(0), known=0) for one in batch.series))


def cut_at_the_wrong_end(batch: Batch, card: ModelCard) -> Batch:
    """A context over the limit is not cut to its last steps: older ones are read."""
    limit = card.max_context
    return Batch(tuple(replace(one, target=one.target[:, :limit], past=one.past[:, :limit]) for one in batch.series))


def with_another_seed(batch: Batch, card: ModelCard) -> Batch:
    def reseeded(sampling: Sampling | None) -> Sampling | None:
        return sampling and replace(sampling, seed=0)

    return Batch(tuple(replace(one, sampling=reseeded(one.sampling)) for one in batch.series))


# --- what a slip does to the forecasts -------------------------------------------------------------------


def bent(bend: Callable[[Array], Array]) -> Callable[[Batch, tuple[Answer, ...]], tuple[Answer, ...]]:
    """`bend` for every array (..., horizon, channels) of every forecast."""

    def answer(one: Answer) -> Answer:
        match one:
            case SeriesForecast():
                samples = None if one.samples is None else bend(one.samples)
                return replace(one, point=bend(one.point), quantiles=bend(one.quantiles), samples=samples)
            case SeriesFailure():
                return one
            case _:
                assert_never(one)

    return lambda batch, answers: tuple(map(answer, answers))


def levels_reversed(batch: Batch, answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    return tuple(
        replace(one, quantiles=one.quantiles[::-1]) if isinstance(one, SeriesForecast) else one for one in answers
    )


def leaking(batch: Batch, answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """A thousandth of what a neighbour says is in every forecast."""
    total = sum(float(one.point[0, 0]) for one in answers if isinstance(one, SeriesForecast))
    count = sum(isinstance(one, SeriesForecast) for one in answers)

    def leaked(one: Answer) -> Answer:
        if isinstance(one, SeriesFailure):
            return one
        leak = 1e-3 * (total / count - float(one.point[0, 0]))
        return replace(one, point=one.point + leak, quantiles=one.quantiles + leak)

    return tuple(map(leaked, answers))


def writing_to_its_input(batch: Batch, answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Gaps are filled in the caller's array."""
    for one in batch.series:
        one.target[np.isnan(one.target)] = 0.0
    return answers


MUTANTS = (
    Mutant(
        "mask off",
        asked=padded_and_unmasked,
        not_applicable=lambda card: "" if card.missing_values != "refused" else "the model refuses gaps",
    ),
    Mutant(
        "channels swapped",
        answered=bent(lambda values: values[..., ::-1]),
        not_applicable=lambda card: "" if card.max_channels > 1 else "the model has one channel",
    ),
    Mutant("horizon off by one", answered=bent(lambda values: np.roll(values, -1, axis=-2))),
    Mutant("neighbour leak", answered=leaking),
    Mutant(
        "covariate dropped",
        asked=without_covariates,
        not_applicable=lambda card: "" if card.covariates.future != "ignored" else "the model uses no covariates",
    ),
    Mutant("level order", answered=levels_reversed),
    Mutant("wrong scale", answered=bent(lambda values: values * 1.01)),
    Mutant("un-truncated", asked=cut_at_the_wrong_end),
    Mutant(
        "seed ignored",
        asked=with_another_seed,
        not_applicable=lambda card: "" if card.sampling.native or card.sampling.copula else "the model draws nothing",
    ),
    Mutant("input mutated", answered=writing_to_its_input),
)


def passes(check: Check, subject: Subject) -> bool:
    """Whether `subject` does what `check` demands."""
    try:
        check.run(subject)
    except Exception:  # one that raises does not
        return False
    return True


def faults(card: ModelCard, folder: Path) -> list[str]:
    """Run every mutant against the model of `card`, and print which check noticed it.

    Names the mutants that nothing noticed, and the checks that the unbroken adapter fails: those notice nothing.
    """
    sample = build(card, folder)
    adapter = load(sample.card, sample.folders, Device())
    sound = Subject(sample.card, adapter, sample.reference)
    checks = [check for check in CHECKS if check.applies(sample.card)]
    kept = [check for check in checks if passes(check, sound)]
    found = [f"unbroken, fails {check.name}" for check in checks if check not in kept]
    for mutant in MUTANTS:
        if reason := mutant.not_applicable(sample.card):
            verdict = f"not applicable: {reason}"
        else:
            broken = replace(sound, adapter=Broken(adapter, mutant, sample.card))
            verdict = next((check.name for check in kept if not passes(check, broken)), "SURVIVED")
            found += [mutant.name] if verdict == "SURVIVED" else []
        print(f"  {mutant.name:20s} {verdict}", flush=True)
    adapter.close()
    return found


def _code(card: ModelCard) -> str:
    """What a card runs: its class, or of models without weights its module, where only the fit differs."""
    adapter = card.adapter or ""
    return adapter if card.weights else adapter.partition(":")[0]


def main(word: str = "") -> int:
    """Break one model of each adapter, of those whose id has `word` in it; the exit status."""
    found = []
    one_each = {_code(card): card for card in representatives() if word in card.id}
    for card in one_each.values():
        print(card.id, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found += [f"{card.id}: {fault}" for fault in faults(card, Path(folder))]
    print("\n".join(["", "Not as it should be:", *found]) if found else "\nEvery mutant was noticed.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
