"""Golden exchanges: the bodies that the documents show and the tests hold the dialect to.

`<name>.request.json` and `<name>.response.json` lie beside this module.
"""

from __future__ import annotations

from importlib.resources import files

from gateway.dialects.base import Example


def _answer(name: str, summary: str) -> Example:
    """What is told to a caller who sends no body."""
    response = (files(__name__) / f"{name}.response.json").read_bytes()
    return Example(name=name, summary=summary, request=b"", response=response)


def _exchange(name: str, summary: str, status: int = 200) -> Example:
    folder = files(__name__)
    return Example(
        name=name,
        summary=summary,
        status=status,
        request=(folder / f"{name}.request.json").read_bytes(),
        response=(folder / f"{name}.response.json").read_bytes(),
    )


FORECAST = (
    _exchange("forecast", "Covariates, quantiles and timestamps"),
    _exchange("forecast-minimal", "One series"),
    _exchange("forecast-multivariate", "Two channels with a gap, no calendar"),
    _exchange("forecast-partial-failure", "One series fails alone"),
    _exchange("forecast-dry-run", "What would be done"),
    _exchange("validation-error", "A field is missing", 422),
    _exchange("validation-error-target-1d", "A target that is not 2D", 422),
    _exchange("validation-error-many", "Every fault at once", 422),
)

# Answers of a gateway, kept by `python -m tests.contract.goldens`.
BATCH = (_exchange("batch", "A forecast, and a model that the key may not use"),)
ENSEMBLE = (
    _exchange("ensemble", "Three candidates and one that there is not"),
    _exchange("ensemble-too-short", "No series is long enough to hold rows out", 422),
)
BACKTEST = (_exchange("backtest", "Two folds"),)
ANOMALIES = (_exchange("detect-anomalies", "A spike"),)

# The life of a job, kept by `python -m tests.contract.job_life`: by method and path.
JOBS = {
    "POST /v1/jobs": (
        _exchange("job", "Two series, before other jobs and within ten minutes", 202),
        _exchange("job-refused", "Faults of the order and of its request", 422),
    ),
    "GET /v1/jobs": (_answer("job-list", "The newest one"),),
    "GET /v1/jobs/{id}": (_answer("job-completed", "Over, with its small result"),),
    "GET /v1/jobs/{id}/result": (
        _answer("job-result", "As the endpoint would have answered"),
        _answer("job-result-page", "The second of two outputs"),
    ),
    "POST /v1/jobs/{id}/cancel": (_answer("job-cancelled-too-late", "Over, and left as it was"),),
}
