"""What operators import elsewhere names only what the gateway counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from gateway.http.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
OURS = re.compile(r"\b(gateway_[a-z0-9_]+|process_[a-z0-9_]+)")
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def counted() -> set[str]:
    return {family.name for family in Metrics().registry.collect()}


def named(expression: str) -> set[str]:
    """The metrics of a query, without the suffixes of their kind."""
    found = set()
    for name in OURS.findall(expression):
        suffix = next((s for s in SUFFIXES if name.endswith(s)), "")
        found.add(name.removesuffix(suffix))
    return found


def test_every_panel_asks_for_what_is_counted() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "forecast-gateway.json").read_text())
    queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    queries += [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert len(queries) > 15
    for query in queries:
        assert named(query), query
        assert named(query) <= counted(), query


def test_every_alert_watches_what_is_counted() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert named(rule["expr"]) <= counted(), rule["alert"]
        assert rule["annotations"]["summary"]
    assert any(named(rule["expr"]) for rule in rules)
