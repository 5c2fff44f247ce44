"""The one table from codes to HTTP statuses, and what HTTP says beside an error."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gateway.errors import Code, GatewayError

STATUS: Mapping[Code, int] = {
    Code.MALFORMED: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.CONFLICT: 409,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.INVALID_ARGUMENT: 422,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.MODEL_FAILED: 502,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}

MEANING: Mapping[Code, str] = {
    Code.MALFORMED: "The body cannot be read; the sentence says at which byte.",
    Code.UNAUTHENTICATED: "A key is needed, or the one sent is unknown, expired or revoked.",
    Code.PERMISSION_DENIED: "The caller may not do this.",
    Code.NOT_FOUND: "There is no such model or path; the sentence names the nearest.",
    Code.METHOD_NOT_ALLOWED: "The path does not take this method; `allow` names those it takes.",
    Code.NOT_ACCEPTABLE: "No form that the caller accepts is offered.",
    Code.CONFLICT: "The same idempotency key came with another body, or the job is not over yet.",
    Code.PAYLOAD_TOO_LARGE: "The body is over the limit, as sent or after decompression.",
    Code.UNSUPPORTED_MEDIA_TYPE: "The Content-Type or Content-Encoding is not offered.",
    Code.INVALID_ARGUMENT: "Something in the request cannot be; `detail` lists up to 20 places at once.",
    Code.RESOURCE_EXHAUSTED: "A limit of this caller is used up.",
    Code.INTERNAL: "A bug of the gateway, logged under the request's id.",
    Code.MODEL_FAILED: "The model raised, or returned something that is not a forecast.",
    Code.UNAVAILABLE: "Overloaded, loading, weights not on this machine, or stopping.",
    Code.DEADLINE_EXCEEDED: "The deadline of the request passed.",
}


def headers_of(error: GatewayError) -> dict[str, str]:
    """Headers that HTTP wants beside an error, whatever the dialect."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.code is Code.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return headers


def internal(request_id: str) -> GatewayError:
    """What a caller learns of a bug: that it was one, and the id under which it was logged."""
    return GatewayError(
        Code.INTERNAL, f"The gateway failed at this request and has logged why under the id {request_id}."
    )
