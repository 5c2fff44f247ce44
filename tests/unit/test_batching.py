"""Keys, prices and the shape of single cuts; the laws of many are in tests/property/test_batching.py."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from adapters.base import Sampling, Series
from catalog.card import Batching, Covariates, Licence, ModelCard
from gateway.engine.batcher import spread
from gateway.engine.batching import BatchQueue, Group, item_of, length_bucket

BATCHING = Batching(
    patch=16,
    overhead=1,
    token_budget=100,
    shortest_bucket=16,
    horizon_classes=(64, 128),
    horizon_factors=(1.0, 10.0, 19.0),
)
CARD = ModelCard(
    id="test/model",
    title="Test",
    family="test",
    licence=Licence(id="MIT"),
    max_context=2048,
    max_horizon=1024,
    batching=BATCHING,
)


def series(length: int, horizon: int = 24, channels: int = 1) -> Series:
    return Series(target=np.zeros((channels, length)), horizon=horizon)


@pytest.mark.parametrize(
    ("length", "bucket"), [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (512, 512), (513, 1024), (2048, 2048)]
)
def test_buckets_double(length: int, bucket: int) -> None:
    assert length_bucket(BATCHING, length) == bucket


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        (series(1), 2),
        (series(16), 2),
        (series(17), 3),
        (series(512), 33),
        (series(512, channels=3), 99),
        (series(16, horizon=64), 2),
        (series(16, horizon=65), 20),
        (series(16, horizon=1000), 38),
    ],
)
def test_the_price_is_the_cards(asked: Series, tokens: float) -> None:
    assert item_of(CARD, asked).tokens == tokens


def test_rows_that_compute_alike_share_a_key() -> None:
    plain = series(100)
    key = item_of(CARD, plain).key
    alike = [
        series(65, horizon=64),
        series(128, channels=4),
        replace(plain, levels=(0.1, 0.9), season=12),
    ]
    assert {item_of(CARD, s, request=i).key for i, s in enumerate(alike)} == {key}
    drawn = replace(plain, sampling=Sampling(count=5, seed=1))
    assert item_of(CARD, drawn).key == item_of(CARD, replace(plain, sampling=Sampling(count=9, seed=2))).key


def test_rows_that_compute_otherwise_do_not() -> None:
    plain = series(100)
    other = [
        plain,
        series(129),
        series(100, horizon=65),
        replace(plain, sampling=Sampling(count=5, seed=1)),
        replace(plain, sampling=Sampling(count=5, seed=1, temperature=0.5)),
        replace(plain, sampling=Sampling(count=5, seed=1, top_k=3)),
        replace(plain, sampling=Sampling(count=5, seed=1, top_p=0.5)),
        replace(plain, cross_learning=True),
        replace(plain, cross_learning=True, group=1),
    ]
    keys = [item_of(CARD, s).key for s in other]
    keys.append(item_of(CARD, other[-1], request=1).key)
    keys.append(item_of(msgspec.structs.replace(CARD, id="test/other"), plain).key)
    assert len(set(keys)) == len(keys)


def test_series_that_learn_from_each_other_meet_whatever_their_lengths() -> None:
    together = [replace(series(n), cross_learning=True) for n in (10, 100, 2000)]
    assert len({item_of(CARD, s).key for s in together}) == 1


def test_series_that_learn_from_each_other_run_in_one_cut() -> None:
    """Of a budget of 100 tokens, each of them takes 33 or more."""
    queue = BatchQueue()
    queue.push([item_of(CARD, series(900), 1)])
    queue.push(
        [item_of(CARD, replace(series(n), cross_learning=True), 2, i) for i, n in enumerate((500, 2000, 10, 600))]
    )
    queue.push([item_of(CARD, replace(series(500), cross_learning=True), 3, i) for i in range(2)])
    assert cut(queue) == [[(1, 0)], [(2, 0), (2, 1), (2, 2), (2, 3)]]
    assert cut(queue) == [[(3, 0), (3, 1)]]
    assert queue.tokens() == {}


def test_covariates_that_the_model_reads_are_rows() -> None:
    asked = replace(series(16, channels=2), past=np.zeros((3, 16)))
    reads = msgspec.structs.replace(CARD, covariates=Covariates(past="native", future="native"))
    assert item_of(CARD, asked).rows == 2
    assert item_of(reads, asked).rows == 5


def test_a_key_reads_as_words() -> None:
    assert str(item_of(CARD, series(100)).key) == "test/model/h0/128"
    drawn = replace(series(100), sampling=Sampling(count=5, seed=1, temperature=0.5), cross_learning=True)
    assert str(item_of(CARD, drawn).key) == "test/model/h0/2048/t0.5-k0-p1-c0/cross-learning"


def cut(queue: BatchQueue) -> list[list[tuple[int, int]]]:
    return [[(i.request, i.index) for i in g.items] for g in queue.cut()]


def test_mixed_lengths_run_as_groups_of_one_cut() -> None:
    queue = BatchQueue()
    for request, length in enumerate((10, 200, 12, 210)):
        queue.push([item_of(CARD, series(length), request)])
    assert cut(queue) == [[(0, 0), (2, 0)], [(1, 0), (3, 0)]]
    assert queue.tokens() == {}


def test_riders_pass_others_over_once() -> None:
    """Of a budget of 100 tokens, 900 points take 58 and 10 points take 2."""
    queue = BatchQueue()
    queue.push([item_of(CARD, series(10), 1)])
    queue.push([item_of(CARD, series(900), 2)])
    queue.push([item_of(CARD, series(900), 3)])
    queue.push([item_of(CARD, series(10), 4, i) for i in range(52)])
    assert cut(queue) == [[(1, 0), *((4, i) for i in range(49))]], "the short ones fill the cut"
    queue.push([item_of(CARD, series(10), 5)])
    assert cut(queue) == [[(2, 0)]], "the next due one does not fit beside it, so that nobody rides"
    assert cut(queue) == [[(4, 49), (5, 0), (4, 50), (4, 51)], [(3, 0)]], "the cheaper group runs first"


def test_requests_take_turns() -> None:
    queue = BatchQueue()
    queue.push([item_of(CARD, series(500), 1, i) for i in range(20)])
    assert cut(queue) == [[(1, 0), (1, 1), (1, 2)]]
    queue.push([item_of(CARD, series(500), 2, i) for i in range(20)])
    assert cut(queue) == [[(1, 3), (2, 0), (1, 4)]]
    assert cut(queue) == [[(1, 5), (2, 1), (1, 6)]]


def test_one_series_above_the_budget_runs_alone() -> None:
    queue = BatchQueue()
    queue.push([item_of(CARD, series(10), 1)])
    queue.push([item_of(CARD, series(2048), 2)])
    queue.push([item_of(CARD, series(10), 3)])
    assert cut(queue) == [[(1, 0), (3, 0)]]
    assert cut(queue) == [[(2, 0)]]


def test_what_is_withdrawn_is_gone() -> None:
    queue = BatchQueue()
    queue.push([item_of(CARD, series(n), 1, i) for i, n in enumerate((10, 900, 10))])
    queue.push([item_of(CARD, series(10), 2)])
    queue.withdraw(1)
    queue.withdraw(7)
    assert len(queue) == 1
    assert queue.tokens() == {"test/model": 2}
    assert cut(queue) == [[(2, 0)]]
    assert cut(queue) == []


def test_what_is_restored_comes_first() -> None:
    queue = BatchQueue()
    queue.push([item_of(CARD, series(500), 1, i) for i in range(4)])
    taken = [i for g in queue.cut() for i in g.items]
    queue.push([item_of(CARD, series(500), 2)])
    queue.restore(taken)
    assert cut(queue) == [[(1, 0), (1, 1), (1, 2)]]


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [([3], 1, [3]), ([3], 2, [2, 1]), ([3], 5, [1, 1, 1]), ([1, 4], 3, [1, 2, 2]), ([1, 1], 4, [1, 1]), ([], 2, [])],
)
def test_cuts_are_spread_by_groups_over_workers_that_wait(sizes: list[int], workers: int, expected: list[int]) -> None:
    item = item_of(CARD, series(10))
    cuts = [tuple(Group(key=item.key, items=(item,)) for _ in range(size)) for size in sizes]
    parts = spread(cuts, workers)

    assert [len(part) for part in parts] == expected
    assert [group for part in parts for group in part] == [group for one in cuts for group in one]


def test_a_gpu_is_given_what_fills_a_gpu() -> None:
    """The card has one budget for each kind of device."""
    card = msgspec.structs.replace(CARD, batching=msgspec.structs.replace(BATCHING, gpu_token_budget=400))
    for gpu, count in ((False, 50), (True, 200)):
        queue = BatchQueue()
        queue.push(item_of(card, series(16), 1, index) for index in range(300))  # two tokens each
        assert sum(len(group.items) for group in queue.cut(gpu)) == count
