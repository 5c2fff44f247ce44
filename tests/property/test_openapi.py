"""The document is valid OpenAPI 3.1, and the gateway keeps to it whatever is sent."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.dialects import canonical
from tests.serving import Gateway


def no_bug(ctx: CheckContext, response: Response, case: Case) -> None:
    """A deadline of a microsecond may pass and weights may be absent; a 500 is never an answer."""
    assert response.status_code != 500, response.text


CHECKS = [
    no_bug,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Of requests; other operations have little to vary.
EXAMPLES = {"/v1/forecast": 150, **{o.path: 60 for o in canonical.OPERATIONS if o is not canonical.FORECAST}}
FEW = 20


@pytest.fixture(scope="session")
def document(gateway: Gateway) -> Any:
    return httpx.get(f"{gateway.base_url}/openapi.json").json()


def test_whatever_is_sent_is_answered_as_documented(gateway: Gateway, document: Any, subtests: pytest.Subtests) -> None:
    """Requests that the document allows and requests that it does not."""
    api = schemathesis.openapi.from_dict(document)
    api.config.update(base_url=gateway.base_url)
    for found in api.get_all_operations():
        operation = found.ok()
        if "account" in operation.definition.raw.get("tags", ()):
            continue  # the first key would end anonymous access for everyone: `test_account.py`
        allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        cases = st.one_of(
            allowed, allowed.map(with_a_model), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        )

        @given(case=cases)
        @settings(
            max_examples=EXAMPLES.get(operation.path, FEW),
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Case) -> None:
            case.call_and_validate(checks=CHECKS)

        with subtests.test(operation.label):
            check()


def with_a_model(case: Case) -> Case:
    """The same request of a model that there is, so that it comes further than its name."""
    if isinstance(case.body, dict):
        case.body = _of_a_model(case.body)
        if isinstance(requests := case.body.get("requests"), list):
            case.body["requests"] = [_of_a_model(r) if isinstance(r, dict) else r for r in requests]
    return case


def _of_a_model(body: dict[str, Any]) -> dict[str, Any]:
    known = {"model": "seasonal-naive", "models": ["seasonal-naive", "no-such-model"]}
    return {name: known.get(name, value) for name, value in body.items()}


def test_the_document_is_valid(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()
    identifiers = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_every_example_is_what_the_schema_says(document: Any) -> None:
    checked = 0
    for path in document["paths"].values():
        for operation in path.values():
            for body in (operation.get("requestBody", {}), *operation["responses"].values()):
                for content in body.get("content", {}).values():
                    schema = {**content["schema"], "components": document["components"]}
                    for example in content.get("examples", {}).values():
                        jsonschema_rs.validate(schema, example["value"])
                        checked += 1
    assert checked >= 4


def test_both_addresses_of_the_document_are_one(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert client.get("/openapi.json").content == client.get("/api/schema").content
