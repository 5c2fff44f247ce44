"""Where keys are in use, each client of another system sends one in its own way, and is refused in its own shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.cli import main
from tests.clients import python_of, run
from tests.serving import Gateway, serving

CALLS = Path(__file__).parents[1] / "clients" / "boto3_calls.py"
BODY = '{"inputs": [{"target": [1, 2, 3, 4]}]}'


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway on which nobody is anonymous, and a key of it that may use one model."""
    folder = tmp_path_factory.mktemp("keyed")
    config = {
        "server": {"data_dir": str(folder / "data")},
        "engine": {"default_model": "seasonal-naive", "workers": 1, "statistical_workers": 1},
        "deployments": {"sales": {"target": "sales", "date": "date"}},
    }
    made = folder / "key.json"
    with pytest.MonkeyPatch.context() as patch, made.open("w") as out:
        patch.setattr("sys.stdout", out)
        arguments = ["keys", "create", "--data-dir", str(folder / "data"), "--name", "moved"]
        assert main([*arguments, "--models", "forecast-gateway/seasonal-naive", "--json"]) == 0
    key = json.loads(made.read_text())["key"]
    with serving(folder, config=config) as gateway:
        yield gateway, key


def test_boto3_sends_the_key_as_its_access_key_id(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    said = json.loads(run([python_of("datarobot-nixtla-boto3"), CALLS, gateway.base_url, "default", BODY, key]))
    assert len(said["body"]["predictions"]) == 1


@pytest.mark.parametrize("form", ["Bearer", "Token", "Basic", "Basic, bare"])
def test_datarobots_forms_of_authorization(keyed: tuple[Gateway, str], form: str) -> None:
    gateway, key = keyed
    both = base64.b64encode(f"someone@example.com:{key}".encode()).decode()
    value = {"Basic": f"Basic {both}", "Basic, bare": f"Basic {key}"}.get(form, f"{form} {key}")
    headers = {"authorization": value, "datarobot-key": "forecast-gateway"}
    with gateway.client(**headers) as caller:
        assert caller.get("/api/v2/version/").status_code == 200
        csv = "date,sales\n2024-01-01,1\n2024-01-02,2\n2024-01-03,\n"
        answer = caller.post("/predApi/v1.0/deployments/sales/predictions", content=csv)
        assert answer.json()["data"][0]["prediction"] == 2.0
        gone = caller.post("/predApi/v1.0/deployments/gone/predictions", content=csv).json()["message"]
        assert gone.startswith("Deployment gone cannot be found for user ")
        assert not gone.endswith("anonymous")


def test_nixtlas_key_is_a_bearer(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    with gateway.client(authorization=f"Bearer {key}") as caller:
        assert caller.get("/validate_api_key").json() == {"detail": "This key is valid."}
        assert caller.get("/usage").json()["minute"]["consumed"] >= 0
        body = {"series": {"y": [1, 2, 3], "sizes": [3]}, "h": 1, "freq": "D"}
        assert caller.post("/v2/forecast", json={**body, "model": "timegpt-1"}).json()["mean"] == [3.0]
        refused = caller.post("/v2/forecast", json={**body, "model": "bolt-nano"})
    assert refused.status_code == 403
    assert "forecast-gateway/bolt-nano" in refused.json()["detail"]


REFUSED = {
    "/predApi/v1.0/deployments/sales/predictions": {"message"},
    "/v2/forecast": {"detail", "code", "requestID"},
    "/invocations": {"code", "type", "message"},
    "/endpoints/default/invocations": {"Message", "OriginalStatusCode", "OriginalMessage"},
}


@pytest.mark.parametrize("path", REFUSED)
def test_a_wrong_key_is_refused_in_the_dialects_shape(keyed: tuple[Gateway, str], path: str) -> None:
    answer = httpx.post(f"{keyed[0].base_url}{path}", content=BODY, headers={"authorization": "Bearer fg_wrong"})
    assert answer.status_code == 401
    assert set(answer.json()) == REFUSED[path]
    if path.startswith("/endpoints"):
        assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
