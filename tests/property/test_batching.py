"""The laws of the queue, over generated arrivals, cuts, departures and deaths of workers.

The order is written down here a second time, as plainly as can be; the queue under test never sees it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.base import Series
from catalog.card import Batching, Licence, ModelCard
from gateway.engine.batching import BatchQueue, Group, item_of

BUDGET, MOST_ROWS = 64, 12


def card(name: str, patch: int = 4) -> ModelCard:
    return ModelCard(
        id=name,
        title=name,
        family="test",
        licence=Licence(id="MIT"),
        max_context=1024,
        max_horizon=64,
        batching=Batching(
            patch=patch,
            token_budget=BUDGET,
            max_series=MOST_ROWS,
            shortest_bucket=8,
            horizon_classes=(8,),
            horizon_factors=(1.0, 4.0),
        ),
    )


CARDS = (card("a"), card("b", patch=8))
# Many short series that share batches, and some far above what one budget holds.
LENGTHS = st.one_of(st.integers(1, 8), st.integers(1, 600))
SPECS = st.tuples(st.sampled_from(CARDS), LENGTHS, st.sampled_from([4, 4, 20]), st.sampled_from([1, 1, 1, 3]))


def series(length: int, horizon: int = 4, channels: int = 1) -> Series:
    return Series(target=np.zeros((channels, length)), horizon=horizon)


def names(cut: tuple[Group, ...]) -> list[tuple[int, int]]:
    return [(i.request, i.index) for g in cut for i in g.items]


class QueueLaws(RuleBasedStateMachine):
    """Pushes, cuts, withdrawals and restores in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchQueue()
        self.ring: list[int] = []  # requests in the order of their turns
        self.waiting: dict[int, list[int]] = defaultdict(list)
        self.passed_over: Counter[tuple[int, int]] = Counter()
        self.served: Counter[tuple[int, int]] = Counter()
        self.pushed = 0
        self.latest: tuple[Group, ...] = ()

    def order(self) -> list[tuple[int, int]]:
        """Every waiting item: by turn, counted from the first that waits of its request, then by request."""
        places = [
            (index - self.waiting[request][0], place, request, index)
            for place, request in enumerate(self.ring)
            for index in self.waiting[request]
        ]
        return [(request, index) for _, _, request, index in sorted(places)]

    @rule(specs=st.lists(SPECS, min_size=1, max_size=25))
    def push(self, specs: list[tuple[ModelCard, int, int, int]]) -> None:
        self.pushed += 1
        self.queue.push([item_of(c, series(n, h, k), self.pushed, i) for i, (c, n, h, k) in enumerate(specs)])
        self.ring.append(self.pushed)
        self.waiting[self.pushed] = list(range(len(specs)))

    @rule()
    def cut(self) -> None:
        order = self.order()
        cut = self.latest = self.queue.cut()
        taken = names(cut)
        assert bool(taken) == bool(order), "a cut is empty only if nothing waits"
        if not taken:
            return
        assert order[0] in taken, "the item that stands first is always taken"
        self.check_groups(cut)
        last = max(order.index(item) for item in taken)
        for item in set(order[:last]) - set(taken):
            self.passed_over[item] += 1
            assert self.passed_over[item] == 1, f"{item} was passed over in two cuts"
        for request, index in taken:
            self.served[request, index] += 1
            assert self.served[request, index] == 1, "served twice"
            self.waiting[request].remove(index)
        served = {request for request, _ in taken}
        self.ring = [r for r in self.ring if r not in served] + [r for r in self.ring if r in served]
        self.ring = [r for r in self.ring if self.waiting[r]]

    def check_groups(self, cut: tuple[Group, ...]) -> None:
        for group in cut:
            assert {i.key for i in group.items} == {group.key}
            assert all(i.series.target.shape[1] <= group.key.bucket for i in group.items)
            rows = sum(i.rows for i in group.items)
            assert rows <= MOST_ROWS
            longest = max(i.row_tokens for i in group.items)
            assert group.padded_tokens == rows * longest
        assert len({g.key for g in cut}) == len(cut), "groups of one key are one group"
        assert [g.padded_tokens for g in cut] == sorted(g.padded_tokens for g in cut), "the cheapest runs first"
        if len(names(cut)) > 1:
            assert sum(g.padded_tokens for g in cut) <= BUDGET, "the budget bounds the whole cut"

    @precondition(lambda self: self.ring)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.ring))
        self.queue.withdraw(request)
        self.ring.remove(request)
        del self.waiting[request]

    @precondition(lambda self: self.latest)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """A worker died before it began the later groups of the latest cut."""
        begun = data.draw(st.integers(0, len(self.latest)))
        back = [i for g in self.latest[begun:] for i in g.items]
        self.latest = ()
        self.queue.restore(back)
        returned = []
        for item in back:
            if item.request not in returned:
                returned.append(item.request)
            self.served[item.request, item.index] -= 1
            self.waiting[item.request] = sorted([*self.waiting[item.request], item.index])
        self.ring = returned + [r for r in self.ring if r not in returned]

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.queue) == len(self.order())
        assert bool(self.queue.tokens()) == bool(self.ring)

    def teardown(self) -> None:
        """Whatever happened, everything that was pushed and not withdrawn is served, once."""
        while self.ring:
            self.cut()
        assert len(self.queue) == 0
        assert self.queue.cut() == ()


QueueLaws.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestQueueLaws = QueueLaws.TestCase


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=40),
    before=st.integers(0, 5),
    small=st.integers(1, 600),
)
def test_a_huge_request_holds_a_later_one_up_by_one_batch_at_most(lengths: list[int], before: int, small: int) -> None:
    queue = BatchQueue()
    huge = [lengths[i % len(lengths)] for i in range(1000)]
    queue.push([item_of(CARDS[0], series(n), 1, i) for i, n in enumerate(huge)])
    for _ in range(before):
        queue.cut()
    if not len(queue):
        return
    queue.push([item_of(CARDS[0], series(small), 2)])
    assert (2, 0) in names(queue.cut()) + names(queue.cut())
