"""Messages survive the pipe, however the bytes are cut."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from adapters.base import Device, Remark, Sampling, Series, SeriesForecast
from catalog.card import CARDS, load_cards
from gateway.engine.frames import (
    Begin,
    Done,
    FrameReader,
    Load,
    Run,
    Task,
    decode_from_worker,
    decode_to_worker,
    encode,
)

RICH = Series(
    target=np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.inf]]),
    horizon=2,
    levels=(0.1, 0.5),
    season=12,
    step_s=3600.0,
    past=np.arange(6.0).reshape(2, 3),
    future=np.arange(4.0).reshape(2, 2),
    known=1,
    static=np.array([7.0]),
    categorical=(1,),
    stamps=np.arange(5, dtype=np.int64) - 2**40,
    sampling=Sampling(count=3, seed=2**53, temperature=0.5, top_k=4, top_p=0.9, copula=True),
    cross_learning=True,
    group=4,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b


def through(reader: FrameReader, data: bytes | bytearray) -> list[bytes]:
    return list(reader.feed(data))


@pytest.mark.parametrize(
    "sent", [RICH, Series(target=np.ones((1, 1)), horizon=1), replace(RICH, target=RICH.target.T[:2].T)]
)
def test_a_series_arrives_as_it_was_sent(sent: Series) -> None:
    (body,) = through(FrameReader(), encode(Run(cut=1, tasks=(Task(model="m", series=(sent,)),))))
    message = decode_to_worker(body)
    assert isinstance(message, Run)
    (got,) = message.tasks[0].series
    for field in fields(Series):
        assert same(getattr(got, field.name), getattr(sent, field.name)), field.name
    assert not got.target.flags.writeable, "an adapter that writes to its input finds out"


def test_results_arrive_in_order_with_failures_among_them() -> None:
    forecast = SeriesForecast(
        point=np.ones((2, 1)),
        quantiles=np.ones((0, 2, 1)),
        samples=np.ones((3, 2, 1)),
        remarks=(Remark("covariates_ignored", (1, 2), "x"),),
    )
    sent = Done(cut=3, task=1, results=(forecast, "failed", replace(forecast, samples=None)), compute_s=0.5)
    (body,) = through(FrameReader(), encode(sent))
    got = decode_from_worker(body)
    assert isinstance(got, Done)
    assert (got.cut, got.task, got.compute_s) == (3, 1, 0.5)
    assert got.results[1] == "failed"
    first = got.results[0]
    assert isinstance(first, SeriesForecast)
    assert first.remarks == forecast.remarks
    assert first.quantiles.shape == (0, 2, 1)
    assert same(first.samples, forecast.samples)


def test_every_card_arrives_whole() -> None:
    for card in load_cards(CARDS):
        (body,) = through(FrameReader(), encode(Load(card=card, folders={"model": "/x"})))
        assert decode_to_worker(body) == Load(card=card, folders={"model": "/x"})


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_frames_are_found_however_the_bytes_are_cut(size: int) -> None:
    sent = [Begin(device=Device(name=f"cpu{i}"), library=None) for i in range(5)]
    data = b"".join(encode(m) for m in sent)
    reader = FrameReader()
    got = [decode_to_worker(b) for at in range(0, len(data), size) for b in reader.feed(data[at : at + size])]
    assert got == sent
