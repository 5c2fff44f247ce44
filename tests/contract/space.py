"""Golden and odd requests of the Kronos space; `python -m tests.contract.space` asks a gateway and writes them down.

Look at what has changed. Numbers are rounded; what is another at each call, such as the seed, is left out of the table.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.dialects.guide import odd_requests
from tests.contract.goldens import printed, rounded
from tests.serving import REPOSITORY, Gateway, serving
from tests.space import Market, ask, market

FILES = REPOSITORY / "gateway" / "dialects" / "kronos_space" / "examples"
PATHS = {"predict-api": "/gradio_api/call/predict_api", "predict-custom": "/gradio_api/call/predict_custom"}
KEPT = ("model", "notices")  # of a result, in the table
SEEDED = "Sampled with seed"


@contextmanager
def space(folder: Path) -> Iterator[tuple[Gateway, Market]]:
    """A gateway whose market never changes, and that has no Kronos."""
    with market() as source:
        config = {
            "engine": {"workers": 1, "statistical_workers": 1, "weights_dir": str(folder / "weights")},
            "market_data": {"market_data_url": source.url},
        }
        with serving(folder, config=config) as gateway:
            yield gateway, source


def refresh() -> None:
    """Ask for everything, and write it down."""
    with tempfile.TemporaryDirectory() as folder, space(Path(folder)) as (gateway, _), gateway.client() as caller:
        for name, path in PATHS.items():
            status, answer = ask(caller, "POST", path, (FILES / f"{name}.request.json").read_bytes())
            (FILES / f"{name}.response.json").write_text(printed(rounded(answer["complete"])) + "\n")
            print(name, status)
        table = FILES / "odd.json"
        lines = []
        for row, odd in zip(json.loads(table.read_bytes()), odd_requests(table.read_bytes()), strict=True):
            status, answer = ask(caller, odd.method, odd.path, odd.content)
            kept = steady(answer)
            if (row["status"], row["answer"]) != (status, kept):
                print("  ", status, row["sent"], json.dumps(kept)[:300])
            lines.append(json.dumps({**row, "status": status, "answer": kept}))
        table.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")


def steady(answer: Any) -> Any:
    """An answer without what is another at each call or on another processor."""
    if not isinstance(answer, dict) or "complete" not in answer:
        return answer
    (result,) = answer["complete"]
    kept = {name: result[name] for name in KEPT}
    return {"complete": [{**kept, "notices": [n if SEEDED not in n else SEEDED for n in kept["notices"]]}]}


if __name__ == "__main__":
    refresh()
