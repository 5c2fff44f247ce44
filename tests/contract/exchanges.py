"""Golden exchanges and odd requests of dialects that need a gateway to be answered.

`python -m tests.contract.exchanges` asks a gateway again and writes down what it says: what requests are answered with
is what the pages show, so that the answers come from a gateway and not from a hand. Look at what has changed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.dialects import datarobot, nixtla, sagemaker
from gateway.dialects.base import Dialect, Example
from gateway.dialects.guide import OddRequest
from tests.contract.goldens import differences, printed, rounded
from tests.deployments import DEPLOYMENTS
from tests.serving import REPOSITORY, serving

DIALECTS: tuple[Dialect, ...] = (datarobot.DIALECT, nixtla.DIALECT, sagemaker.DIALECT)
REQUEST_ID = "4f0c1c6e-3d0c-4b43-9a5e-8a0f6f1b7c2d"
NAMES = {"several-series": {"id": "stores"}}  # what stands for a path's parameter, by exchange
DEFAULT_NAMES = {"id": "sales", "name": "default"}


def golden(dialect: Dialect) -> Iterator[tuple[str, Example]]:
    """Every exchange of a dialect with the path that it is asked at."""
    for operation in dialect.operations:
        examples = operation.documentation.examples if operation.documentation else ()
        for example in examples:
            path = operation.path.replace(":path}", "}")
            yield path.format(**{**DEFAULT_NAMES, **NAMES.get(example.name, {})}), example


def asked(caller: httpx.Client, path: str, body: bytes, method: str = "POST") -> httpx.Response:
    """What the gateway answers, with nothing but the body said of the body."""
    return caller.request(method, path, content=body, headers={"x-request-id": REQUEST_ID})


def json_of(reply: httpx.Response) -> Any:
    return reply.json() if reply.content else None


# -- writing them down ---


def refresh() -> None:
    """Ask a gateway for everything, and write down what has changed."""
    config = {"deployments": DEPLOYMENTS, "engine": {"workers": 1, "statistical_workers": 1}}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), config=config) as gateway,
        gateway.client() as caller,
    ):
        for dialect in DIALECTS:
            files = REPOSITORY / "gateway" / "dialects" / dialect.name / "examples"
            for path, example in golden(dialect):
                reply = asked(caller, path, example.request)
                kept = files / f"{example.name}.response.json"
                changes = differences(json.loads(kept.read_bytes()), reply.json()) if kept.exists() else ["new"]
                if changes:
                    kept.write_text(printed(rounded(reply.json())) + "\n")
                print(dialect.name, example.name, reply.status_code, example.status, changes[:3])
            _refresh_odd(caller, files / "odd.json")


def _refresh_odd(caller: httpx.Client, table: Path) -> None:
    lines = []
    for row in json.loads(table.read_bytes()):
        request = OddRequest(
            sent=row["sent"],
            method=row.get("method", "POST"),
            path=row["path"],
            body=_raw(row),
            status=0,
            answer=_raw({}),
        )
        reply = asked(caller, request.path, request.content, request.method)
        answer = _steady(json_of(reply))
        if (row.get("status"), row.get("answer")) != (reply.status_code, answer):
            print("  ", reply.status_code, row["sent"], json.dumps(answer)[:300])
        lines.append(json.dumps({**row, "status": reply.status_code, "answer": answer}, ensure_ascii=False))
    table.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")


def _raw(row: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(row["body"]).encode()) if "body" in row else msgspec.Raw(b"")


def _steady(answer: Any) -> Any:
    """An answer without what is another on another processor, and without what names the request."""
    if isinstance(answer, dict):
        kept = {k: _steady(v) for k, v in answer.items() if k != "requestID" and not _holds_floats(v)}
        return {k: v for k, v in kept.items() if v not in ({}, [{}])}
    if isinstance(answer, list):
        return [_steady(v) for v in answer]
    return answer


def _holds_floats(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and any(_holds_floats(v) for v in value))


if __name__ == "__main__":
    refresh()
