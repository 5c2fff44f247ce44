"""The OpenAPI 3.1 document, made from the endpoints: msgspec types for schemas, golden exchanges for examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.dialects.base import Documentation, Example, wire_code
from gateway.errors import Code
from gateway.http.problems import MEANING, STATUS
from gateway.http.routing import Endpoint, Parameter, RenderError

JSON = "application/json"
ACCEPTED = 202
REF = "#/components/schemas/{name}"
Schema = dict[str, Any]  # JSON Schema is what it is: a tree of its own

DESCRIPTION = """\
Forecasts from time-series foundation models and statistical ones, over one contract. Bodies are JSON or msgpack,
and may be compressed with gzip or zstd. Every answer carries `x-request-id` and `server-timing`."""

# Codes that a path may answer with, by what it is.
ALWAYS = (Code.UNAUTHENTICATED, Code.INTERNAL)
WITH_CALLER = (Code.PERMISSION_DENIED, Code.RESOURCE_EXHAUSTED)
WITH_INPUT = (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
WITH_BODY = (
    Code.MALFORMED,
    Code.NOT_ACCEPTABLE,
    Code.PAYLOAD_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
)
WITH_WORK = (Code.MODEL_FAILED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def document(endpoints: Sequence[Endpoint], error: type) -> bytes:
    """The document as JSON. `error` is the type of errors that no dialect shapes otherwise."""
    documented = [e for e in endpoints if e.documentation is not None and e.documentation.listed]
    schemas = _Schemas(_types(documented, error))
    paths: dict[str, Schema] = {}
    for endpoint in documented:
        paths.setdefault(_path(endpoint), {})[endpoint.method.lower()] = _operation(endpoint, schemas, error)
    tree = {
        "openapi": "3.1.0",
        "info": {
            "title": "Forecast Gateway",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components, "headers": HEADERS},
    }
    return msgspec.json.encode(tree)


HEADERS: Schema = {
    "x-request-id": {
        "description": "The id that the request named, or a new one; the log has it too.",
        "schema": {"type": "string"},
    },
    "server-timing": {
        "description": "Milliseconds in the queue, in the model, and in all.",
        "schema": {"type": "string"},
    },
    "location": {"description": "Where the job is looked for.", "schema": {"type": "string"}},
    "retry-after": {"description": "Whole seconds after which to try again.", "schema": {"type": "integer"}},
}


class _Schemas:
    """Every type of the document, once, by reference."""

    def __init__(self, types: Iterable[object]) -> None:
        members = list(dict.fromkeys(m for kind in types for m in _members(kind)))
        schemas, self.components = msgspec.json.schema_components(members, ref_template=REF)
        self._schemas = dict(zip(members, schemas, strict=True))

    def of(self, kind: object) -> Schema:
        found = [self._schemas[m] for m in _members(kind)]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _members(kind: object) -> tuple[object, ...]:
    """The types of a union of bodies, which no decoder could tell apart and a document need not."""
    bodies = get_args(kind) if isinstance(kind, UnionType) else ()
    return bodies if all(isinstance(b, type) and issubclass(b, msgspec.Struct) for b in bodies) and bodies else (kind,)


def _types(endpoints: Iterable[Endpoint], error: type) -> Iterable[object]:
    yield error
    for endpoint in endpoints:
        yield from (p.type for p in endpoint.parameters)
        docs = _docs(endpoint)
        yield from (t for t in (docs.request, docs.response, docs.error, docs.accepted) if t is not None)


def _docs(endpoint: Endpoint) -> Documentation:
    assert endpoint.documentation is not None
    return endpoint.documentation


def _path(endpoint: Endpoint) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", endpoint.path)


def _operation(endpoint: Endpoint, schemas: _Schemas, error: type) -> Schema:
    docs = _docs(endpoint)
    words = re.findall(r"\w+", _path(endpoint))
    operation: Schema = {
        "operationId": "_".join([endpoint.method.lower(), *words]),
        "summary": docs.summary,
        "tags": [docs.tag],
        "responses": {
            str(docs.status): _success(docs, schemas),
            **_accepted(docs, schemas),
            **_errors(endpoint, schemas.of(docs.error or error)),
        },
    }
    if docs.description:
        operation["description"] = docs.description
    if endpoint.parameters:
        operation["parameters"] = [_parameter(p, schemas) for p in endpoint.parameters]
    if docs.request is not None:
        examples = {e.name: _example(e, e.request) for e in docs.examples if e.status == docs.status}
        operation["requestBody"] = {
            "required": True,
            "content": {
                **_content(docs.media_types, schemas.of(docs.request), examples),
                **_streams(docs.streams_in),
            },
        }
    return operation


def _parameter(parameter: Parameter, schemas: _Schemas) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": schemas.of(parameter.type),
    }


def _success(docs: Documentation, schemas: _Schemas) -> Schema:
    examples = {e.name: _example(e, e.response) for e in docs.examples if e.status == docs.status}
    named = {"x-request-id", "server-timing", *(["location"] if docs.status == ACCEPTED else [])}
    found: Schema = {"description": docs.summary, "headers": _headers(named)}
    if docs.response is not None:
        found["content"] = _content(docs.media_types, schemas.of(docs.response), examples)
    if docs.streams_out:
        found["content"] = {**found.get("content", {}), **_streams(docs.streams_out)}
    return found


def _accepted(docs: Documentation, schemas: _Schemas) -> Schema:
    """The answer to a caller who wants it later."""
    if docs.accepted is None:
        return {}
    named = {"x-request-id", "server-timing", "location"}
    content = _content(docs.media_types, schemas.of(docs.accepted), {})
    return {str(ACCEPTED): {"description": "Taken as a job.", "headers": _headers(named), "content": content}}


def _errors(endpoint: Endpoint, schema: Schema) -> Schema:
    """Every error answer: one shape, and the meaning of each code. Codes that share a status share an entry."""
    docs = _docs(endpoint)
    codes = [*ALWAYS]
    if endpoint.parameters or docs.request is not None:
        codes += WITH_INPUT
    if docs.request is not None:
        codes += [*WITH_BODY, *WITH_WORK]
    if endpoint.role != "public":
        codes += WITH_CALLER
    if endpoint.role == "operator":
        codes += WITH_WORK
    codes += [*docs.codes, *(c for p in endpoint.parameters for c in p.codes)]
    found: Schema = {}
    for code in sorted(set(codes), key=lambda c: STATUS[c]):
        status = str(STATUS[code])
        named = {"x-request-id", *(["retry-after"] if code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED) else [])}
        shown = {e.name: _example(e, e.response) for e in docs.examples if str(e.status) == status}
        found[status] = {
            "description": f"{wire_code(code)}: {MEANING[code]}",
            "headers": _headers(named),
            "content": _content((JSON,), schema, shown),
        }
    return found


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


def _content(media_types: Iterable[str], schema: Schema, examples: Schema) -> Schema:
    return {
        media_type: {"schema": schema, **({"examples": examples} if examples and media_type == JSON else {})}
        for media_type in media_types
    }


def _streams(media_types: Iterable[str]) -> Schema:
    """Bodies that are streams: their description tells what they hold."""
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


def _example(example: Example, body: bytes) -> Schema:
    return {"summary": example.summary or example.name, "value": msgspec.Raw(body)}


def endpoints(described: Sequence[Endpoint], error: type, render_error: RenderError) -> list[Endpoint]:
    """The document of `described`, made when it is first asked for, at both of its paths."""
    made: list[bytes] = []

    async def respond(request: Request) -> Response:
        if not made:
            made.append(document(described, error))
        return Response(made[0], media_type=JSON)

    return [
        Endpoint(method="GET", path=path, respond=respond, render_error=render_error, role="public")
        for path in ("/openapi.json", "/api/schema")
    ]
