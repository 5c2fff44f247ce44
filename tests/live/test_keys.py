"""Keys before a real gateway: who is let in, to what, for how long, and that no key is ever to be read anywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import COMMAND, REPOSITORY, START_LIMIT_S, Gateway, serving

NAIVE = "forecast-gateway/seasonal-naive"
CONFIG = {"engine": {"workers": 1, "statistical_workers": 1, "default_model": "seasonal-naive"}}
BODY = {"model": "seasonal-naive", "inputs": [{"target": [[1], [2], [3]]}], "parameters": {"prediction_length": 1}}
HANG_S = 25.0  # five times what is promised of a revocation


def command(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `forecast-gateway` beside the gateway."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FORECAST_GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *args],
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
    )


def until(true: Callable[[], bool]) -> None:
    """Wait for a fact, up to the hang limit."""
    limit = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)


class Office:
    """A gateway with an admin key, and every key that was ever made for it."""

    def __init__(self, gateway: Gateway, folder: Path, admin: str) -> None:
        self.gateway = gateway
        self.data_dir = folder / "data"
        self.admin = gateway.client(authorization=f"Bearer {admin}")
        self.texts = [admin]

    def make(self, **terms: object) -> tuple[str, str]:
        """A new key and its id."""
        made = self.admin.post("/api/account/keys", json={"name": "some", **terms})
        assert made.status_code == 201, made.text
        self.texts.append(made.json()["key"])
        return made.json()["key"], made.json()["id"]

    def forecast(self, key: str | None, **headers: str) -> httpx.Response:
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return httpx.post(f"{self.gateway.base_url}/v1/forecast", json=BODY, headers=headers, timeout=START_LIMIT_S)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A gateway whose first key a command made while it ran."""
    folder = tmp_path_factory.mktemp("office")
    with serving(folder, config=CONFIG) as gateway:
        url = f"{gateway.base_url}/v1/forecast"
        assert httpx.post(url, json=BODY, timeout=START_LIMIT_S).status_code == 200  # nobody needs a key yet
        data_dir = str(folder / "data")
        made = command("keys", "create", "--data-dir", data_dir, "--name", "root", "--admin", "--json")
        assert made.returncode == 0, made.stderr
        answer = json.loads(made.stdout)
        assert set(answer) == {"key", "id"}
        until(lambda: httpx.post(url, json=BODY).status_code == 401)  # the first key ends that
        running = Office(gateway, folder, answer["key"])
        yield running
        running.admin.close()


def test_a_key_comes_in_any_of_the_usual_headers(office: Office) -> None:
    key, _ = office.make()
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    bare = base64.b64encode(key.encode()).decode()
    signed = f"AWS4-HMAC-SHA256 Credential={key}/20260101/eu/sagemaker/aws4_request, SignedHeaders=host, Signature=0"
    forms = [
        {"authorization": f"Bearer {key}"},
        {"authorization": f"bearer {key}"},
        {"authorization": f"Token {key}"},
        {"authorization": f"Basic {basic}"},
        {"authorization": f"Basic {bare}"},
        {"authorization": signed},
        {"x-api-key": key},
        {"datarobot-key": key},
    ]
    for headers in forms:
        assert office.forecast(None, **headers).status_code == 200, headers


def test_a_key_that_is_not_good_is_refused(office: Office) -> None:
    key, _ = office.make()
    for text in (key[:-1] + ("A" if key[-1] != "A" else "B"), f"fg_{'0' * 12}_{'x' * 43}", "nonsense", "fg_"):
        refused = office.forecast(text)
        assert (refused.status_code, refused.json()["code"]) == (401, "UNAUTHENTICATED")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert office.forecast(None).status_code == 401
    assert office.forecast(None, authorization="Digest x").status_code == 401
    assert httpx.get(f"{office.gateway.base_url}/v1/models", params={"api_key": key}).status_code == 401
    assert httpx.get(f"{office.gateway.base_url}/readyz").status_code == 200  # probes need none


def test_a_key_reaches_its_models_and_no_others(office: Office) -> None:
    key, _ = office.make(models=["forecast-gateway/*"])
    other = {**BODY, "model": "auto-theta"}
    with office.gateway.client(authorization=f"Bearer {key}") as client:
        assert client.post("/v1/forecast", json=BODY).status_code == 200
        refused = client.post("/v1/forecast", json=other)
        assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
        ids = client.get("/v1/models").json()["models"]
        assert ids
        assert all(i.startswith("forecast-gateway/") for i in ids)
        batch = client.post("/v1/forecast/batch", json={"requests": [BODY, other]}).json()["data"]
        assert [item["ok"] for item in batch] == [True, False]
        assert batch[1]["error"]["code"] == "PERMISSION_DENIED"


def test_a_key_reaches_its_endpoints_and_no_others(office: Office) -> None:
    key, _ = office.make(endpoints=["/v1/models", "/v1/usage"])
    with office.gateway.client(authorization=f"Bearer {key}") as client:
        assert client.get("/v1/models").status_code == 200
        refused = client.post("/v1/forecast", json=BODY)
        assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
        assert "/v1/forecast" in refused.json()["error"]


def test_a_job_is_no_way_around_a_keys_endpoints(office: Office) -> None:
    """Orders of every type, uploads, and calls that are answered later."""
    series = {name: value for name, value in BODY.items() if name != "model"}
    long = [[i] for i in range(40)]
    work: dict[str, object] = {
        "forecast": BODY,
        "batch": {"requests": [BODY]},
        "ensemble": {**series, "models": ["seasonal-naive"]},
        "backtest": {**BODY, "windows": 1, "inputs": [{"target": long}]},
        "anomalies": {**BODY, "inputs": [{"target": long}], "parameters": {}},
    }
    jobs, _ = office.make(endpoints=["/v1/jobs*", "/v1/backtest"])
    with office.gateway.client(authorization=f"Bearer {jobs}") as client:
        found = {kind: client.post("/v1/jobs", json={"type": kind, "request": work[kind]}) for kind in work}
        codes = {kind: (answer.status_code, answer.json().get("code")) for kind, answer in found.items()}
        denied = (403, "PERMISSION_DENIED")
        assert codes == {**dict.fromkeys(work, denied), "backtest": (202, None)}
        assert "/v1/forecast/ensemble" in found["ensemble"].json()["error"]
        head = {"type": "forecast", "request": {"model": "seasonal-naive", "parameters": {"prediction_length": 1}}}
        lines = "\n".join(json.dumps(line) for line in (head, {"target": [[1], [2], [3]]}))
        lines_type = "application/x-ndjson"
        upload = client.post("/v1/jobs", content=lines, headers={"content-type": lines_type})
        assert (upload.status_code, upload.json()["code"]) == denied
        garbled = b'{"type": "forecast", "request": {"model": "\xff"}}\n{"target": [[1]]}'
        assert client.post("/v1/jobs", content=garbled, headers={"content-type": lines_type}).status_code == 400
    at_once, _ = office.make(endpoints=["/v1/forecast"])
    assert office.forecast(at_once).status_code == 200
    assert office.forecast(at_once, prefer="respond-async").status_code == 403


def test_only_an_admin_key_manages_keys(office: Office) -> None:
    key, _ = office.make()
    with office.gateway.client(authorization=f"Bearer {key}") as client:
        for answer in (client.get("/api/account/keys"), client.post("/api/account/keys", json={"name": "mine"})):
            assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
        assert client.get("/api/usage").status_code == 403
        assert client.post(f"/api/models/{NAIVE}/pin").status_code == 403
    listed = office.admin.get("/api/account/keys").json()["data"]
    assert {"id", "name", "status", "prefix", "limits"} <= set(listed[0])
    assert all("key" not in row and "digest" not in row for row in listed)


def test_a_revoked_key_stops_here_at_once_and_soon_where_another_process_revoked_it(office: Office) -> None:
    (here, here_id), (there, there_id) = office.make(), office.make()
    assert office.forecast(here).status_code == office.forecast(there).status_code == 200
    assert office.admin.delete(f"/api/account/keys/{here_id}").json()["status"] == "revoked"
    refused = office.forecast(here)
    assert (refused.status_code, refused.json()["error"]) == (401, "This key is revoked.")
    done = command("keys", "revoke", there_id, "--data-dir", str(office.data_dir))
    assert done.returncode == 0, done.stderr
    until(lambda: office.forecast(there).status_code == 401)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name": "\xff"}', 400),
        (b'{"name": "x", "' + b"\xc3" + b'": 1}', 400),
        (b'{"name": "x", "expires": "9999-12-31T23:59:59-23:00"}', 422),
        (b'{"name": "x", "owner": "a\\u0000b"}', 422),
    ],
)
def test_a_key_that_cannot_be_is_refused(office: Office, body: bytes, status: int) -> None:
    assert office.admin.post("/api/account/keys", content=body).status_code == status
    assert office.admin.get("/api/account/keys").status_code == 200


def test_a_key_expires(office: Office) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    key, _ = office.make(expires=soon)
    assert office.forecast(key).status_code == 200
    until(lambda: office.forecast(key).status_code == 401)
    assert office.forecast(key).json()["error"] == "This key is expired."
    past = office.admin.post("/api/account/keys", json={"name": "late", "expires": "2001-01-01T00:00:00Z"})
    assert past.status_code == 422


def test_a_rotated_key_has_another_secret_and_stays_the_same_key(office: Office) -> None:
    old, key_id = office.make()
    made = office.admin.post(f"/api/account/keys/{key_id}/rotate", json={"overlap_s": 3600}).json()
    office.texts.append(made["key"])
    assert made["id"] == key_id
    assert made["key"] != old
    assert office.forecast(old).status_code == office.forecast(made["key"]).status_code == 200  # the overlap
    last = office.admin.post(f"/api/account/keys/{key_id}/rotate").json()["key"]
    office.texts.append(last)
    assert [office.forecast(k).status_code for k in (old, made["key"], last)] == [401, 401, 200]
    assert office.admin.post("/api/account/keys/none/rotate").status_code == 404


def test_validate_says_whose_a_key_is(office: Office) -> None:
    key, key_id = office.make(name="robot", owner="Ada", models=["forecast-gateway/*"])
    url = f"{office.gateway.base_url}/v1/validate"
    for answer in (
        httpx.post(url, json={"api_key": key}),
        httpx.post(url, headers={"authorization": f"Bearer {key}"}),
        httpx.post(url, headers={"x-api-key": key}, json={}),
    ):
        found = answer.json()
        assert (answer.status_code, found["valid"], found["auth_type"], found["user"]) == (200, True, "api_key", "Ada")
        assert (found["key"]["id"], found["key"]["models"]) == (key_id, ["forecast-gateway/*"])
    wrong = httpx.post(url, json={"api_key": "fg_wrong"}).json()
    assert wrong == {"valid": False, "auth_type": "none", "user": None, "reason": "This key is unknown."}
    assert httpx.post(url).json()["valid"] is False
    assert httpx.post(url, content=b"{").status_code == 400


def test_the_playground_has_a_session_of_its_own_on_this_machine(office: Office) -> None:
    page = {"origin": office.gateway.base_url, "sec-fetch-site": "same-origin"}
    with office.gateway.client(**page) as browser:
        assert browser.get("/api/session").status_code == 401
        opened = browser.post("/api/session")
        assert opened.json()["auth_type"] == "session"
        cookie = opened.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
        assert browser.post("/v1/forecast", json=BODY).status_code == 200
        assert browser.get("/api/usage").status_code == 403  # whoever plays is no operator
        assert browser.post("/api/account/keys", json={"name": "x"}).status_code == 403
        elsewhere = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
        assert browser.post("/v1/forecast", json=BODY, headers=elsewhere).status_code == 401
        assert browser.get("/v1/models", headers={"x-forwarded-for": "10.0.0.1"}).status_code == 401
        assert browser.get("/v1/models", headers={"host": "evil.example"}).status_code == 401
    with office.gateway.client() as program:
        assert program.post("/api/session").status_code == 401  # no page
        assert program.get("/v1/models", headers={"cookie": "fg_session=AAAA"}).status_code == 401


def test_an_admin_signs_in_for_the_dashboard(office: Office) -> None:
    key, key_id = office.make(admin=True)
    plain, _ = office.make()
    page = {"origin": office.gateway.base_url, "sec-fetch-site": "same-origin"}
    with office.gateway.client(**page) as browser:
        assert browser.post("/api/session", json={"api_key": plain}).status_code == 403
        assert browser.post("/api/session", json={"api_key": "fg_wrong"}).status_code == 401
        opened = browser.post("/api/session", json={"api_key": key})
        assert (opened.status_code, opened.json()["admin"]) == (200, True)
        assert key not in opened.text + str(opened.headers)
        assert browser.get("/api/usage").status_code == 200
        assert browser.get("/api/usage", headers={"sec-fetch-site": "cross-site"}).status_code == 401
        office.admin.delete(f"/api/account/keys/{key_id}")
        assert browser.get("/api/usage").status_code == 401  # a session is as good as its key
        browser.delete("/api/session")
        assert "fg_session" not in browser.cookies


def test_no_key_is_to_be_read_anywhere(office: Office) -> None:
    """Logs, pages, metrics, errors, usage, and every file of the data folder."""
    texts = [t.encode() for t in office.texts]
    pages = ("/metrics", "/openapi.json", "/", "/docs", "/playground", "/api/usage?group_by=key", "/v1/models")
    seen = [office.gateway.log.read_bytes(), *(office.admin.get(path).content for path in pages)]
    seen.append(office.admin.get("/api/usage/requests", params={"limit": 500}).content)
    seen.append(office.admin.get("/api/account/keys").content)
    seen.append(office.admin.post("/v1/forecast", content=texts[0]).content)
    seen += [p.read_bytes() for p in office.data_dir.rglob("*") if p.is_file()]
    secrets = [t.rpartition(b"_")[2] if t.count(b"_") == 2 else t[16:] for t in texts]
    assert len(secrets) > 10
    assert not [s for s in secrets for text in seen if s in text]
    assert (office.data_dir / "key.pepper").stat().st_mode & 0o777 == 0o600


def test_where_there_is_no_key_one_of_ours_is_refused_and_others_are_passed_over(gateway: Gateway) -> None:
    with gateway.client() as client:
        ours = {"authorization": f"Bearer fg_{'0' * 12}_{'x' * 43}"}
        assert client.post("/v1/forecast", json=BODY, headers=ours).status_code == 401
        assert client.post("/v1/forecast", json=BODY, headers={"x-api-key": "EMPTY"}).status_code == 200
        assert client.post("/v1/validate").json() == {"valid": True, "auth_type": "anonymous", "user": None}


def test_a_page_of_another_site_has_no_work_done_without_a_key(gateway: Gateway) -> None:
    page = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    with gateway.client() as client:
        for path, body in (("/v1/forecast", BODY), ("/v1/jobs", {"type": "forecast", "request": BODY})):
            sent = client.post(path, content=json.dumps(body), headers=page)  # no content-type: no preflight
            assert (sent.status_code, sent.json()["code"]) == (403, "PERMISSION_DENIED")
        for ours in ({"origin": gateway.base_url}, {"origin": gateway.base_url, "sec-fetch-site": "same-origin"}):
            assert client.post("/v1/forecast", json=BODY, headers=ours).status_code == 200
        assert client.get("/v1/models", headers=page).status_code == 200  # whose answer no other page reads


def test_an_address_that_others_reach_needs_a_key_or_the_operators_word(tmp_path: Path) -> None:
    refused = command("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert refused.returncode == 1
    assert "keys create" in refused.stderr
    assert "--allow-anonymous" in refused.stderr


def test_a_job_belongs_to_the_key_that_made_it(office: Office) -> None:
    """Others are told that there is none, whatever they ask of it; an admin sees all."""
    mine, other = (office.gateway.client(authorization=f"Bearer {office.make()[0]}") for _ in range(2))
    with mine, other:
        job = mine.post("/v1/jobs", json={"type": "forecast", "request": BODY}, headers={"idempotency-key": "k"})
        assert job.status_code == 202, job.text
        path = job.headers["location"]
        asked = [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")]
        nothing = other.get("/v1/jobs/nothing").json()["error"].replace("nothing", job.json()["id"])
        for method, end in asked:
            refused = other.request(method, path + end)
            assert (refused.status_code, refused.json()["error"]) == (404, nothing)
        assert other.get("/v1/jobs").json()["data"] == []
        again = other.post("/v1/jobs", json={"type": "forecast", "request": BODY}, headers={"idempotency-key": "k"})
        assert again.json()["id"] != job.json()["id"]
        assert [j["id"] for j in mine.get("/v1/jobs").json()["data"]] == [job.json()["id"]]
        assert office.admin.get(path).status_code == 200
        assert {job.json()["id"], again.json()["id"]} <= {j["id"] for j in office.admin.get("/v1/jobs").json()["data"]}
        secrets = {c.get("/api/account/webhook-secret").json()["secret"] for c in (mine, other, office.admin)}
        assert len(secrets) == 3
        assert mine.delete(path).status_code == 204
