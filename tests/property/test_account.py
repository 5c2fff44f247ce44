"""Operators' endpoints keep to the document whatever is sent, on a gateway of their own: they make keys."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests.property.test_openapi import CHECKS
from tests.serving import serving

FEW = 15
CONFIG: dict[str, dict[str, object]] = {
    "engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"},
    "jobs": {"job_slots": 0},
}


def test_whatever_an_operator_sends_is_answered_as_documented(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    with serving(tmp_path_factory.mktemp("account"), config=CONFIG, ready=False) as gateway:
        made = httpx.post(f"{gateway.base_url}/api/account/keys", json={"name": "admin", "admin": True})
        headers = {"authorization": f"Bearer {made.json()['key']}"}
        api = schemathesis.openapi.from_dict(httpx.get(f"{gateway.base_url}/openapi.json").json())
        api.config.update(base_url=gateway.base_url)
        for found in api.get_all_operations():
            operation = found.ok()
            if not {"account", "usage"} & set(operation.definition.raw.get("tags", ())):
                continue
            cases = st.one_of(
                operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
                operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
            )

            @given(case=cases)
            @settings(
                max_examples=FEW,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Case) -> None:
                case.call_and_validate(checks=CHECKS, headers=headers)

            with subtests.test(operation.label):
                check()
        assert "request_failed" not in gateway.log.read_text()
