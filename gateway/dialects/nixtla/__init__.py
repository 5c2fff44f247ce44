"""Nixtla's API, as `NixtlaClient(base_url=...)` speaks it: forecasts, cross-validation and anomalies of flat series.

All series of a call lie one after the other in `y`, `sizes` long each; answers are flat in the same order. Models named
`timegpt...` are the gateway's default. What a gateway does not do is not done and said in `x-forecast-notices`:
fine-tuning on the fly, feature contributions. The list of models at `/v2/models` is shared with KServe:
`dialects/shared.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.dialects.base import Call, Dialect, Documentation, Kind, Operation, Reply, Steps
from gateway.dialects.guide import Example, Guide
from gateway.dialects.nixtla import parse, render
from gateway.dialects.nixtla.examples import ANOMALIES, CROSS_VALIDATION, FORECAST, ODD


def _operation(
    method: str,
    path: str,
    kind: Kind,
    parses: Callable[[Call], Steps[Any]],
    renders: Callable[[Call, Any], Reply],
    summary: str,
    examples: tuple[Example, ...] = (),
) -> Operation[Any, Any]:
    return Operation(
        method=method,
        path=path,
        kind=kind,
        parse=parses,
        render=renders,
        render_error=render.error,
        documentation=Documentation(summary=summary, examples=examples, listed=False),
    )


DIALECT = Dialect(
    name="nixtla",
    operations=(
        _operation(
            "POST",
            "/v2/forecast",
            Kind.FORECAST,
            parse.forecast,
            render.forecasts,
            "Forecasts with prediction intervals, of series with or without exogenous features",
            FORECAST,
        ),
        _operation(
            "POST",
            "/v2/cross_validation",
            Kind.BACKTEST,
            parse.cross_validation,
            render.cross_validations,
            "Forecasts of held-out windows",
            CROSS_VALIDATION,
        ),
        _operation(
            "POST",
            "/v2/anomaly_detection",
            Kind.ANOMALIES,
            parse.anomaly_detection,
            render.anomalies,
            "Values outside of the interval that their past led to expect",
            ANOMALIES,
        ),
        _operation("GET", "/model_params", Kind.MODEL, parse.model_params, render.sizes, "A model's sizes"),
        _operation("GET", "/validate_api_key", Kind.SESSION, parse.nothing, render.valid, "Whether a key is one"),
        _operation("GET", "/usage", Kind.USAGE, parse.nothing, render.usage, "Requests by minute and month"),
    ),
    guide=Guide(
        title="Nixtla",
        summary="The API of TimeGPT, as `NixtlaClient` of the package `nixtla` speaks it: `POST /v2/forecast`, "
        "`/v2/cross_validation` and `/v2/anomaly_detection`, and what the client asks beside.",
        moving=(
            'Give the client this gateway\'s URL: `NixtlaClient(api_key="...", '
            'base_url="http://127.0.0.1:8000")`. Calls stay as they are; columns are still named `TimeGPT`.',
            "Models named `timegpt-...` are this gateway's default model. Others are asked for by id or alias: "
            '`client.forecast(df, h=24, model="chronos-bolt-small")`; `client.list_models()` lists the ids.',
            "Where keys are in use, `api_key` is one of this gateway's keys; without, it can be any text.",
        ),
        supported=(
            "`forecast` with `level` or `quantiles`, `X_df`, `hist_exog_list`, `categorical_exog_list` (where the "
            "model "
            "takes categories), `date_features`, `add_history`, `multivariate` (where the model learns across series) "
            "and `num_partitions`.",
            "`cross_validation` with `n_windows`, `step_size`, `level` or `quantiles`, and exogenous features.",
            "`detect_anomalies` with any `level`: every value against the forecast one step ahead; from 5,000 "
            "values on, in blocks of a few steps, and `x-forecast-notices` says of how many.",
            "`validate_api_key`, `usage` and `list_models`.",
            "Missing values, series of different lengths, bodies compressed with zstd.",
        ),
        unsupported=(
            "Fine-tuning: `finetune_steps` is read past, and the header `x-forecast-notices` says so; "
            "`finetuned_model_id` is 422.",
            "`feature_contributions` are null; `weights_x` too. `clean_ex_first` has nothing to do.",
            "Intervals are the model's own quantiles, not conformal ones.",
            "`detect_anomalies_online`, `simulate`, `explain`, `finetune` and jobs (`client.jobs`) are 404.",
            "A series that fails alone fails the call: flat lists have no place for it.",
        ),
        odd=ODD,
    ),
)
