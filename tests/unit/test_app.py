"""The application as a value, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "chronos", "timesfm", "statsforecast", "pandas", "pyarrow", "django", "scipy")


def test_importing_the_application_imports_no_model_library() -> None:
    code = f"import sys, gateway.app; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_a_page_whose_files_are_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from starlette.requests import Request

    from gateway.http import pages

    monkeypatch.setattr(pages, "PACKAGE", "no_package_of_this_name")
    scope = {"type": "http", "method": "GET", "path": "/docs", "headers": []}
    answer = asyncio.run(pages.page("swagger.html")(Request(scope)))
    assert answer.status_code == 503
    assert b"forecast-gateway[serve]" in bytes(answer.body)


def test_sharing_forecasts_that_are_not_kept_is_refused() -> None:
    from gateway.app import build
    from gateway.settings import SettingsError, resolve

    with pytest.raises(SettingsError, match="needs cache_mb"):
        build(resolve(environ={}, flags={"cache_shared_s": "60"}))
    assert build(resolve(environ={}, flags={"cache_shared_s": "60", "cache_mb": "1"})).forecasts is not None
    assert build(resolve(environ={}, flags={"cache_mb": "1"})).forecasts is None
