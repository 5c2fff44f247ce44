"""What the documents show of a job is what a gateway tells."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from gateway.dialects.base import Example
from gateway.dialects.canonical import examples
from gateway.dialects.canonical.jobs import JobBody, JobListBody, ResultPageBody
from tests.contract.goldens import REQUEST_ID, differences
from tests.contract.job_life import Told, life
from tests.serving import Gateway

EXCHANGES: Mapping[str, Example] = {e.name: e for shown in examples.JOBS.values() for e in shown}


@pytest.fixture(scope="module")
def told(gateway: Gateway) -> dict[str, Told]:
    with gateway.client(**{"x-request-id": REQUEST_ID}) as caller:
        return {t.name: t for t in life(caller)}


def test_every_answer_is_shown(told: dict[str, Told]) -> None:
    assert set(told) == set(EXCHANGES)


@pytest.mark.parametrize("name", sorted(EXCHANGES))
def test_a_job_is_told_as_shown(told: dict[str, Told], name: str) -> None:
    golden = EXCHANGES[name]
    assert told[name].status == golden.status
    shown, found = json.loads(golden.response), told[name].body
    if name == "job-list":
        shown["next"] = found["next"] = None  # other tests have jobs, too
    assert differences(shown, found) == []


@pytest.mark.parametrize(
    ("name", "kind"), [("job", JobBody), ("job-list", JobListBody), ("job-result-page", ResultPageBody)]
)
def test_the_documented_fields_are_those_that_are_told(told: dict[str, Told], name: str, kind: type) -> None:
    assert set(told[name].body) <= set(kind.__struct_fields__)  # type: ignore[attr-defined]
