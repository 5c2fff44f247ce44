"""The playground as an analyst uses it."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta

import httpx
import pytest

from tests.browser.tabs import LOOKS, Tab, Tabs
from tests.serving import Gateway

DAYS = [date(2026, 1, 1) + timedelta(days=i) for i in range(56)]
WEEKLY = [100 + 3 * i / 7 + (40 if i % 7 == 5 else 0) for i in range(56)]
CSV = "day,visitors\n" + "\n".join(f"{d},{v:.1f}" for d, v in zip(DAYS, WEEKLY, strict=True))


def ready(tab: Tab) -> None:
    """The sample that the page begins with is read, and the models are listed."""
    tab.page.wait_for_selector("body[data-read=yes]")
    tab.page.wait_for_selector("#models input")


def paste(tab: Tab, text: str) -> None:
    tab.page.evaluate("document.body.dataset.read = 'no'")
    tab.page.fill("#data", text)
    tab.page.wait_for_selector("body[data-read=yes]")


def run(tab: Tab) -> None:
    tab.page.evaluate("document.body.dataset.ran = 'no'")
    tab.page.click("#run")
    tab.page.wait_for_selector("body[data-ran=yes]")


def traces(tab: Tab) -> dict[str, dict[str, list[object]]]:
    """What the chart draws, by name."""
    drawn = tab.page.evaluate(
        "document.getElementById('chart').data.map(t => ({name: t.name, x: [...t.x], y: [...t.y]}))"
    )
    return {t["name"]: t for t in drawn}


def test_a_pasted_table_becomes_a_drawn_band(tabs: Tabs, pages_gateway: Gateway) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    paste(tab, CSV)
    assert "1 series, 56 rows · time day · forecast visitors · frequency D" in tab.page.inner_text("#data-found")
    tab.page.fill("#horizon", "7")
    tab.page.uncheck("#holdout")
    run(tab)
    drawn = traces(tab)
    assert drawn["History"]["y"] == pytest.approx([round(v, 1) for v in WEEKLY])
    body = {
        "model": "forecast-gateway/bolt-nano",
        "inputs": [{"target": [[round(v, 1)] for v in WEEKLY], "start": "2026-01-01"}],
        "parameters": {"prediction_length": 7, "frequency": "D", "quantile_levels": [0.1, 0.5, 0.9]},
    }
    answer = httpx.post(f"{pages_gateway.base_url}/v1/forecast", json=body, timeout=60).raise_for_status().json()
    output = answer["outputs"][0]
    name = "forecast-gateway/bolt-nano"
    assert drawn[name]["y"] == pytest.approx([row[0] for row in output["mean"]], rel=1e-4)
    assert drawn[name]["x"] == [t.removesuffix("Z") for t in output["timestamps"]]
    for level, at in ((0.1, 0), (0.9, 2)):
        expected = [row[0] for row in output["quantile_predictions"][at]["values"]]
        assert drawn[str(level)]["y"] == pytest.approx(expected, rel=1e-4)
    assert tab.page.locator("#chart .scatterlayer .fills path, #chart .fills path").count() >= 1, "the band is filled"


def test_several_models_are_scored_side_by_side_against_the_held_out_end(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.check("#models input[value$=seasonal-naive]")
    run(tab)
    rows = [r.inner_text().split("\t") for r in tab.page.query_selector_all("#table tbody tr")]
    assert [r[0].strip() for r in rows] == ["forecast-gateway/bolt-nano", "forecast-gateway/seasonal-naive"]
    assert all(float(cell.replace(",", "")) > 0 for r in rows for cell in r[1:5])
    assert {"History", "Held-out truth", *(r[0].strip() for r in rows)} <= set(traces(tab))


def test_an_ensemble_shows_candidates_and_weights(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.click("[data-task=ensemble]")
    tab.page.check("#models input[value$=seasonal-naive]")
    run(tab)
    rows = [r.inner_text().split("\t") for r in tab.page.query_selector_all("#table tbody tr")]
    assert {r[0].split(". ")[1] for r in rows} == {"forecast-gateway/bolt-nano", "forecast-gateway/seasonal-naive"}
    weights = [float(r[1].removesuffix(" %")) for r in rows if "%" in r[1]]
    assert sum(weights) == pytest.approx(100, abs=1)
    assert "ensemble" in traces(tab)


def test_anomalies_are_marked_on_the_series(tabs: Tabs) -> None:
    spiked = [v + (900 if i == 50 else 0) for i, v in enumerate(WEEKLY)]
    tab = tabs.open("/playground")
    ready(tab)
    paste(tab, "day,visitors\n" + "\n".join(f"{d},{v:.1f}" for d, v in zip(DAYS, spiked, strict=True)))
    tab.page.click("[data-task=anomalies]")
    run(tab)
    marked = next(t for name, t in traces(tab).items() if "anomal" in name)
    assert str(DAYS[50]) in marked["x"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("horizon", "0", "at least 1"),
        ("horizon", "100000", "1024"),
        ("quantiles", "0.1, 1.5", "between 0 and 1"),
        ("quantiles", "0.9, 0.1", "ascend"),
        ("frequency", "fortnight", "fortnight"),
    ],
)
def test_a_problem_is_shown_at_its_field(tabs: Tabs, field: str, value: str, says: str) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.uncheck("#holdout")
    tab.page.fill(f"#{field}", value)
    tab.page.click("#run")
    tab.page.wait_for_selector(f"#{field}-fault:not(:empty)")
    assert says in tab.page.inner_text(f"#{field}-fault")
    assert tab.page.get_attribute(f"#{field}", "aria-invalid") == "true"
    tab.expect_refusals()


def test_a_frequency_can_be_put_right(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.fill("#frequency", "fortnight")
    tab.page.press("#frequency", "Tab")
    tab.page.wait_for_selector("#frequency-fault:not(:empty)")
    tab.page.evaluate("document.body.dataset.read = 'no'")
    tab.page.fill("#frequency", "MS")
    tab.page.press("#frequency", "Tab")
    tab.page.wait_for_selector("body[data-read=yes]")
    run(tab)
    assert "forecast-gateway/bolt-nano" in traces(tab)
    tab.expect_refusals()


@pytest.mark.parametrize("text", ["5\n6\n7\n8\n9", "5, 6, 7, 8, 9", "5 6 7 8 9", "5;6;7;8;9"])
def test_a_list_of_numbers_keeps_its_first(tabs: Tabs, text: str) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    paste(tab, text)
    assert "1 series, 5 rows" in tab.page.inner_text("#data-found")
    assert traces(tab)["History"]["y"] == [5, 6, 7, 8, 9]


def test_a_header_that_names_a_column_twice_says_so(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.fill("#data", "date,value,value\n2026-01-01,1,2\n2026-01-02,2,3")
    tab.page.wait_for_selector("#data-fault:not(:empty)")
    assert "'value' more than once" in tab.page.inner_text("#data-fault")
    tab.expect_refusals()


def test_data_that_are_no_table_say_so(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.fill("#data", "month,colour\n2026-01,red\n2026-02,blue")
    tab.page.wait_for_selector("#data-fault:not(:empty)")
    assert "colour" in tab.page.inner_text("#data-fault")
    tab.expect_refusals()


def test_a_gap_is_told_and_mended(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    paste(tab, "\n".join(line for i, line in enumerate(CSV.splitlines()) if i not in (20, 21)))
    assert "2 times are missing before row 21" in tab.page.inner_text("#problems")
    tab.page.evaluate("document.body.dataset.read = 'no'")
    tab.page.click("#problems button")
    tab.page.wait_for_selector("body[data-read=yes]")
    assert "56 rows" in tab.page.inner_text("#data-found")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WEEKLY),
        json.dumps([{"day": str(d), "visitors": v} for d, v in zip(DAYS, WEEKLY, strict=True)]),
        json.dumps({"inputs": [{"target": [[v] for v in WEEKLY]}], "parameters": {"prediction_length": 5}}),
        CSV.replace(",", "\t"),
        CSV.replace(",", ";"),
    ],
    ids=["numbers", "rows", "request", "tabs", "semicolons"],
)
def test_other_forms_of_the_same_data(tabs: Tabs, text: str) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    paste(tab, text)
    tab.page.uncheck("#holdout")
    run(tab)
    drawn = traces(tab)
    assert drawn["History"]["y"] == pytest.approx(WEEKLY, abs=0.06)
    assert "forecast-gateway/bolt-nano" in drawn


def test_the_call_to_copy_is_the_call_that_was_made(tabs: Tabs) -> None:
    tab = tabs.open("/playground")
    ready(tab)
    tab.page.uncheck("#holdout")
    run(tab)
    code = tab.page.inner_text("#code")
    body = json.loads(re.search(r"-d '(.*)'\Z", code, re.DOTALL)[1])  # type: ignore[index]
    answer = httpx.post(f"{tab.base_url}/v1/forecast", json=body, timeout=60)
    assert answer.status_code == 200
    tab.page.click("#languages button:has-text('Python')")
    compile(tab.page.inner_text("#code"), "copied", "exec")


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_fits_and_is_accessible(tabs: Tabs, width: int, scheme: str) -> None:
    tab = tabs.open("/playground", width=width, scheme=scheme)
    ready(tab)
    tab.page.click("summary")
    run(tab)
    assert tab.overflow() == 0
    assert tab.violations() == []
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(247, 247, 245)") == (scheme == "light")
    tab.page.click("#theme")  # light, whatever the system asks for
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "light"
