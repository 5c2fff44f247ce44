"""`datarobot` and `datarobot-predict` against a live gateway, deployments declared while it runs."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.cli import main
from tests.clients import python_of, run
from tests.seeds import seed_text
from tests.serving import COMMAND, REPOSITORY, START_LIMIT_S, Gateway

CALLS = Path(__file__).parents[1] / "clients" / "datarobot_calls.py"
NAME = "5ca1ab1edb1e55ed0ddba11c"
ROWS, AHEAD = 56, 5
PATH = f"/predApi/v1.0/deployments/{NAME}/predictions"


def settings_of(gateway: Gateway) -> Path:
    return gateway.log.parent / "gateway.toml"


def command(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`forecast-gateway deployments ...` on the data folder of a running gateway."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            COMMAND,
            "deployments",
            *arguments,
            "--config",
            str(gateway.log.parent / "gateway.toml"),
        ],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        cwd=REPOSITORY,
        check=False,
    )


def wait_until(gateway: Gateway, name: str, status: int) -> None:
    """Ask for a deployment until that is what is answered; fails after a hang limit."""
    limit = time.monotonic() + START_LIMIT_S
    with gateway.client() as caller:
        while caller.get(f"/api/v2/deployments/{name}/").status_code != status:
            assert time.monotonic() < limit, gateway.log.read_text()[-2000:]
            time.sleep(0.05)


@pytest.fixture(scope="module")
def deployment(gateway: Gateway) -> str:
    columns = ("--target", "sales", "--date", "day", "--series-id", "store", "--known-in-advance", "promo")
    done = command(gateway, "add", NAME, *columns, "--window-end", "14", "--label", "Sales", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["known_in_advance"] == ["promo"]
    wait_until(gateway, NAME, 200)
    return NAME


@pytest.fixture(scope="module")
def said(gateway: Gateway, deployment: str) -> dict[str, Any]:
    """All that the clients made of the gateway, in one process."""
    python = python_of("datarobot-nixtla-boto3")
    answer: dict[str, Any] = json.loads(run([python, CALLS, gateway.base_url, deployment]))
    return answer


def sales(k: int) -> list[float]:
    return [float(10 + i % 7 + 5 * k) for i in range(ROWS)]


def canonical(gateway: Gateway, rows: int = ROWS, horizon: int = AHEAD) -> list[list[float]]:
    """The means of `/v1/forecast` for both stores."""
    inputs = [
        {
            "target": [[v] for v in sales(k)[:rows]],
            "start": "2024-01-01",
            "past_covariates": {"promo": [i % 2 for i in range(rows)]},
            "future_covariates": {"promo": [i % 2 for i in range(rows, rows + horizon)]},
        }
        for k in range(2)
    ]
    parameters = {"prediction_length": horizon, "frequency": "D", "quantile_levels": []}
    with gateway.client() as caller:
        body = {"model": "default", "inputs": inputs, "parameters": parameters}
        outputs = caller.post("/v1/forecast", json=body).raise_for_status().json()["outputs"]
    return [[row[0] for row in output["mean"]] for output in outputs]


def csv() -> str:
    lines = ["day,store,sales,promo"]
    for k, store in enumerate(("north", "south")):
        known = [f"{v:g}" for v in sales(k)] + [""] * AHEAD
        days = np.datetime64("2024-01-01") + np.arange(ROWS + AHEAD)
        lines += [f"{day},{store},{v},{i % 2}" for i, (day, v) in enumerate(zip(days, known, strict=True))]
    return "\n".join(lines) + "\n"


def test_the_clients_find_the_deployment(said: dict[str, Any], gateway: Gateway) -> None:
    name, label, server = said["deployment"]
    assert (name, label) == (NAME, "Sales")
    assert server["url"] == gateway.base_url
    assert NAME in said["listed"]
    assert len(said["servers"]) == 1


def test_predictions_are_the_numbers_of_the_canonical_contract(said: dict[str, Any], gateway: Gateway) -> None:
    table = said["forecast"]
    assert table["columns"] == ["store", "FORECAST_POINT", "day", "FORECAST_DISTANCE", "sales_PREDICTION"]
    assert [row[0] for row in table["data"]] == ["north"] * AHEAD + ["south"] * AHEAD
    assert {row[1] for row in table["data"]} == {"2024-02-25T00:00:00Z"}
    assert [row[2] for row in table["data"]][:2] == ["2024-02-26T00:00:00.000000Z", "2024-02-27T00:00:00.000000Z"]
    assert [row[3] for row in table["data"]] == [1, 2, 3, 4, 5] * 2
    expected = [v for values in canonical(gateway) for v in values]
    assert [row[4] for row in table["data"]] == pytest.approx(expected, rel=1e-9)
    assert said["by_endpoint"] == table


def test_columns_pass_through(said: dict[str, Any]) -> None:
    assert said["passthrough"]["columns"][-2:] == ["sales", "promo"]
    assert said["some"]["columns"][-1] == "promo"
    assert [row[-1] for row in said["some"]["data"]] == [i % 2 for i in range(ROWS, ROWS + AHEAD)] * 2


def test_a_range_is_predicted_from_every_point_that_reaches_it(said: dict[str, Any], gateway: Gateway) -> None:
    """Two days, two stores, fourteen distances; the last of them is a forecast of its own."""
    rows = said["range"]["data"]
    assert len(rows) == 2 * 2 * 14
    at = 50  # 2024-02-20
    (one,) = [r for r in rows if r[0] == "south" and r[2].startswith("2024-02-20") and r[3] == 1]
    assert one[1] == "2024-02-19T00:00:00Z"
    assert one[4] == pytest.approx(canonical(gateway, rows=at, horizon=1)[1][0], rel=1e-2)
    assert said["whole"] > len(rows)


def test_the_clients_raise_what_is_refused(said: dict[str, Any]) -> None:
    assert said["explained"][0] == 422
    assert "maxExplanations" in said["explained"][1]
    assert said["gone"] == [404, "404 client error: {'message': 'Deployment gone cannot be found for user anonymous'}"]


def test_json_csv_and_forms_are_one_table(gateway: Gateway, deployment: str) -> None:
    names = ["day", "store", "sales", "promo"]
    rows = [dict(zip(names, line.split(","), strict=True)) for line in csv().splitlines()[1:]]
    typed = [{**r, "sales": float(r["sales"]) if r["sales"] else None, "promo": int(r["promo"])} for r in rows]
    with gateway.client() as caller:
        answers = [
            caller.post(PATH, content=csv(), headers={"content-type": "text/csv; charset=UTF-8"}),
            caller.post(PATH, json=typed),
            caller.post(PATH, files={"file": ("rows.csv", csv(), "text/csv")}),
            caller.post(PATH, files={"file": ("rows.json", json.dumps(typed))}, data={"note": "before"}),
            caller.post(PATH.removeprefix("/predApi/v1.0"), content=csv().encode("utf-8-sig")),
        ]
        as_csv = caller.post(PATH, content=csv(), headers={"content-type": "text/csv", "accept": "text/csv"})
    first = answers[0].raise_for_status().json()
    assert [a.raise_for_status().json() for a in answers] == [first] * len(answers)
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    lines = as_csv.text.splitlines()
    assert lines[0] == "store,FORECAST_POINT,day,FORECAST_DISTANCE,sales_PREDICTION"
    assert [float(line.split(",")[-1]) for line in lines[1:]] == [row["prediction"] for row in first["data"]]
    assert [row["rowId"] for row in first["data"]] == [*range(56, 61), *range(117, 122)]


@pytest.mark.parametrize(
    "form",
    ["Bearer {}", "Token {}", "Basic {}", "bare basic"],
)
def test_every_form_of_key_is_read(client: httpx.Client, deployment: str, form: str) -> None:
    """Nobody needs a key here; one that cannot be read would be refused all the same."""
    both = base64.b64encode(b"someone@example.com:a-token").decode()
    value = "Basic a-token-as-printed" if form == "bare basic" else form.format(both if "Basic" in form else "a-token")
    headers = {"authorization": value, "datarobot-key": "33257d41-fcc9-7c01-161c-3467df169a50"}
    assert client.get(f"/api/v2/modelDeployments/{deployment}/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["predictionServers", "version", "deployments", "deployments/{}", "modelDeployments/{}"]
)
def test_what_is_read_is_read_with_a_slash_at_the_end_and_without(
    client: httpx.Client, deployment: str, path: str
) -> None:
    with_slash, without = (client.get(f"/api/v2/{path.format(deployment)}{end}") for end in ("/", ""))
    assert with_slash.raise_for_status().json() == without.raise_for_status().json()


PRINTED = (
    "?forecastPoint=2013-12-20T01:30:00Z",
    "?relaxKnownInAdvanceFeaturesCheck=true",
    "?predictionsStartDate=2013-12-20T01:30:00Z&predictionsEndDate=2013-12-20T01:40:00Z",
)


@pytest.mark.parametrize("query", PRINTED)
@pytest.mark.parametrize("authorization", ["Bearer API_key-", "Basic Auth_basic-", "Token API_key-"])
def test_the_printed_arguments_and_headers_are_accepted_as_printed(
    client: httpx.Client, deployment: str, query: str, authorization: str
) -> None:
    printed = seed_text("datarobot-timeseries-predictions.txt")
    assert query in printed
    key = f"{authorization}12345abcdb-xyz6789"
    assert key in printed
    times = [f"2013-12-20T0{i // 6}:{i % 6}0:00Z" for i in range(10)]
    rows = [{"day": t, "store": "a", "sales": i, "promo": 0} for i, t in enumerate(times)]
    rows += [{"day": f"2013-12-20T01:{m}:00Z", "store": "a", "sales": None, "promo": 0} for m in (40, 50)]
    headers = {"Datarobot-key": "33257d41-fcc9-7c01-161c-3467df169a50", "Authorization": key}
    answer = client.post(f"{PATH}{query}", json=rows, headers=headers).raise_for_status().json()["data"]
    points = {(row["forecastPoint"], row["timestamp"]) for row in answer}
    if "End" in query:
        assert {stamp for _, stamp in points} == {"2013-12-20T01:30:00.000000Z"}
        assert len(points) == 9
    else:
        assert {point for point, _ in points} == {"2013-12-20T01:30:00Z"}
        assert [row["timestamp"][11:16] for row in answer] == ["01:40", "01:50"]


def test_columns_known_in_advance_may_be_left_out_where_the_check_is_relaxed(
    client: httpx.Client, deployment: str
) -> None:
    rows = "".join(f"2024-01-0{i},a,{i if i < 8 else ''}\n" for i in range(1, 9))
    body = "day,store,sales\n" + rows
    refused = client.post(PATH, content=body)
    assert (refused.status_code, "promo" in refused.json()["message"]) == (422, True)
    relaxed = client.post(f"{PATH}?relaxKnownInAdvanceFeaturesCheck=True", content=body).raise_for_status()
    assert relaxed.json()["data"][0]["timestamp"] == "2024-01-08T00:00:00.000000Z"


def test_deployments_come_and_go_while_the_gateway_runs(
    gateway: Gateway, deployment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(status: int, *arguments: str) -> str:
        assert main(["deployments", *arguments, "--config", str(settings_of(gateway))]) == status
        captured = capsys.readouterr()
        return captured.out + captured.err

    origins = {row["id"]: row["origin"] for row in json.loads(said(0, "list", "--json"))}
    assert (origins[NAME], origins["sales"]) == ("database", "file")
    columns = ("--target", "a", "--date", "b")
    assert "there already" in said(1, "add", NAME, *columns)
    assert "settings file" in said(1, "add", "sales", *columns)
    assert "settings file" in said(1, "remove", "sales")
    assert "different columns" in said(1, "add", "new", "--target", "a", "--date", "a")
    assert "no model" in said(1, "add", "new", *columns, "--model", "nope")
    assert "window_end" in said(1, "add", "new", *columns, "--window-start", "9", "--window-end", "3")
    said(0, "add", "brief", *columns)
    wait_until(gateway, "brief", 200)
    said(0, "remove", "brief")
    wait_until(gateway, "brief", 404)
    assert "no deployment" in said(1, "remove", "brief")
