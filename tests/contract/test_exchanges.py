"""DataRobot's, Nixtla's and SageMaker's dialects: their golden exchanges asked of a gateway, their shapes of errors."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from gateway.dialects.base import Dialect, Example
from gateway.dialects.guide import OddRequest
from tests.contract import exchanges
from tests.contract.dialects import holds
from tests.contract.goldens import differences
from tests.seeds import json_objects, seed_text
from tests.serving import Gateway

GOLDEN = [(d, path, example) for d in exchanges.DIALECTS for path, example in exchanges.golden(d)]
ODD = [(d, row) for d in exchanges.DIALECTS for row in d.guide.odd]
SEED = "datarobot-timeseries-predictions.txt"


@pytest.mark.parametrize(("dialect", "path", "example"), GOLDEN, ids=[f"{d.name}: {e.name}" for d, _, e in GOLDEN])
def test_a_gateway_answers_as_the_pages_show(gateway: Gateway, dialect: Dialect, path: str, example: Example) -> None:
    with gateway.client() as caller:
        reply = exchanges.asked(caller, path, example.request)
    assert reply.status_code == example.status
    assert differences(json.loads(example.response), reply.json()) == []


@pytest.mark.parametrize(("dialect", "row"), ODD, ids=[f"{d.name}: {row.sent}" for d, row in ODD])
def test_every_refusal_has_the_shape_of_its_dialect(dialect: Dialect, row: OddRequest) -> None:
    if row.status < 400:
        return
    answer = json.loads(bytes(row.answer))
    if dialect.name == "datarobot":
        assert set(answer) == {"message"}
    elif dialect.name == "nixtla":
        assert isinstance(answer["detail"], str)
        assert row.status not in (408, 409, 429, 502, 503, 504), "the client would try again for minutes"
    elif row.path.startswith("/endpoints/"):
        assert set(answer) == {"Message", "OriginalStatusCode", "OriginalMessage"}
    else:
        assert set(answer) == {"code", "type", "message"}


# -- DataRobot's reference, as printed ---


def test_the_printed_regression_is_part_of_the_golden_answer() -> None:
    printed = next(o for o in json_objects(seed_text(SEED)) if "sales (actual)" in json.dumps(o))
    golden = next(e for d, _, e in GOLDEN if e.name == "regression")
    ours = json.loads(golden.response)
    holds(ours, printed)
    numbers = {"value", "prediction"}

    def without_numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_numbers(v) for k, v in value.items() if k not in numbers}
        return [without_numbers(v) for v in value] if isinstance(value, list) else value

    assert without_numbers(ours) == without_numbers(printed)


def test_every_row_of_the_printed_error_table_is_answered() -> None:
    """Each status and sentence stands among the odd requests; names of deployment and user are a caller's own."""
    table = seed_text(SEED).partition("Errors List")[2]
    rows = re.findall(r"^(\d{3}) [A-Z ]+ (\{.*\}) ", table, flags=re.MULTILINE)
    assert len(rows) == 8
    ours = [(row.status, json.loads(bytes(row.answer))["message"]) for row in ODD_OF_DATAROBOT if row.status >= 400]
    for status, text in rows:
        message = json.loads(text)["message"]
        if isinstance(message, str):
            message = message.replace(":deploymentId", "gone").replace(":userId", "anonymous")
        assert (int(status), message) in ours


ODD_OF_DATAROBOT = [row for d, row in ODD if d.name == "datarobot"]


@pytest.mark.parametrize("accept", ["text/csv", "application/json"])
def test_errors_are_json_whatever_is_accepted(gateway: Gateway, accept: str) -> None:
    reply = httpx.post(
        f"{gateway.base_url}/predApi/v1.0/deployments/gone/predictions", content=b"", headers={"accept": accept}
    )
    assert reply.headers["content-type"] == "application/json"
