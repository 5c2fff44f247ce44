"""The golden exchanges of batches, ensembles, backtests and anomalies, asked of a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import jsonschema_rs
import msgspec
import pytest

from gateway.dialects.canonical import examples
from tests.contract import goldens
from tests.seeds import seed_body

EXCHANGES = {e.name: e for e in (*examples.BATCH, *examples.ENSEMBLE, *examples.BACKTEST, *examples.ANOMALIES)}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with goldens.golden_gateway(tmp_path_factory.mktemp("goldens")) as found:
        yield found


def test_every_documented_exchange_is_asked_for() -> None:
    assert set(goldens.PATHS) == set(EXCHANGES)


@pytest.mark.parametrize("name", goldens.PATHS)
def test_a_gateway_answers_as_the_documents_show(caller: httpx.Client, name: str) -> None:
    status, body = goldens.answer(caller, name)
    assert status == EXCHANGES[name].status
    assert goldens.differences(json.loads(EXCHANGES[name].response), body) == []


@pytest.mark.parametrize("name", goldens.PATHS)
def test_msgpack_is_answered_with_the_same(caller: httpx.Client, name: str) -> None:
    body = msgspec.msgpack.encode(json.loads(EXCHANGES[name].request))
    reply = caller.post(goldens.PATHS[name], content=body, headers={"content-type": "application/msgpack"})
    assert (reply.status_code, reply.headers["content-type"]) == (EXCHANGES[name].status, "application/msgpack")
    assert goldens.differences(json.loads(EXCHANGES[name].response), msgspec.msgpack.decode(reply.content)) == []


def test_the_batch_is_the_seeds() -> None:
    assert json.loads(EXCHANGES["batch"].request) == seed_body("forecast-batch.request.json")
    ours, printed = json.loads(EXCHANGES["batch"].response), seed_body("forecast-batch.response.json")
    goldens_of, printed_of = ours["data"], printed["data"]
    assert isinstance(printed_of, list)
    assert [list(item) for item in goldens_of] == [list(item) for item in printed_of]
    assert set(printed_of[0]["result"]) <= set(goldens_of[0]["result"])
    assert list(goldens_of[1]["error"]) == list(printed_of[1]["error"])
    assert goldens_of[1]["error"]["code"] == printed_of[1]["error"]["code"]


def test_the_schema_of_the_document_holds_every_answer(caller: httpx.Client) -> None:
    document = caller.get("/openapi.json").json()
    for name, path in goldens.PATHS.items():
        responses = document["paths"][path]["post"]["responses"]
        content = responses[str(EXCHANGES[name].status)]["content"]["application/json"]
        assert content["examples"][name]["value"] == json.loads(EXCHANGES[name].response)
        jsonschema_rs.validate(
            {**content["schema"], "components": document["components"]}, goldens.answer(caller, name)[1]
        )
