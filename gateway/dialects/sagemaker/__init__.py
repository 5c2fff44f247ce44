"""SageMaker: the container contract, and the runtime's endpoints, in the shape of the Chronos models of JumpStart.

`POST /invocations` and `GET /ping` are what SageMaker calls in a container; there the model is the gateway's default.
`POST /endpoints/{name}/invocations` is what `boto3` calls with `endpoint_url`; there the endpoint's name is a model id
or an alias. Errors of the first are `{"code", "type", "message"}`, as model servers answer; errors of the second are
what the runtime makes of those.
"""

from __future__ import annotations

from gateway.dialects.base import Dialect, Documentation, Kind, Operation
from gateway.dialects.guide import Guide
from gateway.dialects.sagemaker import invocations
from gateway.dialects.sagemaker.examples import CONTAINER, ENDPOINT, ODD

DIALECT = Dialect(
    name="sagemaker",
    operations=(
        Operation(
            method="POST",
            path="/invocations",
            kind=Kind.FORECAST,
            parse=invocations.invocation,
            render=invocations.predictions,
            render_error=invocations.container_error,
            documentation=Documentation(
                summary="Forecast by the default model, as in a container", examples=CONTAINER, listed=False
            ),
        ),
        Operation(
            method="POST",
            path="/endpoints/{name:path}/invocations",
            kind=Kind.FORECAST,
            parse=invocations.invocation,
            render=invocations.predictions,
            render_error=invocations.runtime_error,
            documentation=Documentation(
                summary="Forecast by the model that the endpoint is named after", examples=ENDPOINT, listed=False
            ),
        ),
        Operation(
            method="GET",
            path="/ping",
            kind=Kind.STATUS,
            parse=invocations.ping,
            render=invocations.pong,
            render_error=invocations.container_error,
            public=True,
            documentation=Documentation(summary="Whether the container is ready", listed=False),
        ),
    ),
    guide=Guide(
        title="SageMaker",
        summary="The container contract of SageMaker (`POST /invocations`, `GET /ping`), and the runtime's "
        "`POST /endpoints/{name}/invocations` as `boto3` calls it, in the shape of the Chronos models of JumpStart.",
        moving=(
            'Give the runtime client this gateway\'s URL: `boto3.client("sagemaker-runtime", '
            'endpoint_url="http://127.0.0.1:8000", region_name="local")`. Calls of `invoke_endpoint` stay as they are.',
            "An endpoint's name is a model id or an alias. SageMaker's names hold no `/` and no `.`: give an "
            "endpoint's "
            "name to a model under `[aliases]` in the settings. `chronos-bolt-small`, `chronos-2` and `default` are "
            "there.",
            "In a SageMaker container, `serve` listens on the port of `SAGEMAKER_BIND_TO_PORT`, else on that of the "
            "settings (SageMaker calls 8080), and answers by the default model.",
            "Where keys are in use, send one as `aws_access_key_id`: signatures are not checked.",
        ),
        supported=(
            "`inputs` with `target` as `[time]` or `[dim][time]`, null for a missing value, `item_id`, `start`, "
            "`past_covariates` and `future_covariates` of numbers or of categories, where the model takes them.",
            "`prediction_length` (default 1), `quantile_levels` (default 0.1, 0.5, 0.9), `freq`, `num_samples`, "
            "`temperature`, `top_k`, `top_p` and `predict_batches_jointly`, where the model takes them.",
            "Quantile levels outside the model's trained ones are answered by the nearest trained one, as JumpStart "
            "does; the header `x-forecast-notices` says so.",
            "`start` and `freq` go together; `start` of the answer is written as the one sent, with an offset or "
            "without.",
        ),
        unsupported=(
            "`batch_size` and unknown parameters are read past; batches are cut by the engine.",
            "Series of fewer than 5 observations are forecast; JumpStart refuses them.",
            "A series that fails alone fails the call: the format has no place for it.",
            "`invoke_endpoint_with_response_stream`, `invoke_endpoint_async`, and other models' content types.",
        ),
        odd=ODD,
    ),
)
