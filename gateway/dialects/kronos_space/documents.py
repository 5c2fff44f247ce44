"""`/config` and `/gradio_api/info`: what Gradio's clients read of a space before they call it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gateway.dialects.base import Call, Reply
from gateway.dialects.kronos_space.functions import FUNCTIONS, Function, Parameter

VERSION = "6.31.0"  # of Gradio, whose protocol this is
PREFIX = "/gradio_api"
TITLE = "Kronos: BTC/USDT Price Forecast API"

JsonObject = dict[str, Any]  # documents of Gradio's making, whose keys vary by component

_ANYTHING = {"type": {}, "description": "any valid json"}
_PLOT = {
    "title": "PlotData",
    "type": "object",
    "properties": {
        "type": {"title": "Type", "type": "string", "enum": ["altair", "bokeh", "plotly", "matplotlib"]},
        "plot": {"title": "Plot", "type": "string"},
    },
    "required": ["type", "plot"],
}


def config(call: Call, answer: object) -> Reply:
    """The space's components and dependencies; `root` is where the caller found it."""
    return Reply(body=msgspec.json.encode({**_config(), "root": call.base_url}))


def info(call: Call, answer: object) -> Reply:
    """The functions with their parameters and what they return."""
    named = {f"/{function.name}": _endpoint(function) for function in FUNCTIONS}
    return Reply(body=msgspec.json.encode({"named_endpoints": named, "unnamed_endpoints": {}}))


def no_startup_events(call: Call, answer: object) -> Reply:
    """Nothing has to run before the first call."""
    return Reply(body=b"false")


@lru_cache(maxsize=1)
def _config() -> Mapping[str, Any]:
    components: list[JsonObject] = []
    dependencies: list[JsonObject] = []

    def place(kind: str, schema: Mapping[str, Any] | None, **props: object) -> int:
        id = len(components) + 1
        shown: JsonObject = {"id": id, "type": kind, "props": {"name": kind, "visible": True, **props}}
        shown |= {"skip_api": schema is None, "component_class_id": kind, "key": None}
        components.append(shown if schema is None else {**shown, "api_info": schema, "example_inputs": None})
        return id

    for i, function in enumerate(FUNCTIONS):
        inputs = [place(p.kind, _schema(p), **_props(p)) for p in function.parameters]
        outputs = [place("plot", _PLOT, label="Forecast")] if function.plots else []
        outputs.append(place("json", _ANYTHING, label="Result"))
        button = place("button", None, value=function.label)
        dependencies.append(_dependency(i, function, button, inputs, outputs))
    return {
        "version": VERSION,
        "api_prefix": PREFIX,
        "mode": "blocks",
        "protocol": "sse_v3",
        "connect_heartbeat": False,
        "enable_queue": True,
        "show_error": True,
        "analytics_enabled": False,
        "dev_mode": False,
        "is_colab": False,
        "space_id": None,
        "username": None,
        "max_file_size": None,
        "title": TITLE,
        "components": components,
        "layout": {"id": 0, "children": [{"id": component["id"]} for component in components]},
        "dependencies": dependencies,
    }


def _dependency(id: int, function: Function, button: int, inputs: list[int], outputs: list[int]) -> JsonObject:
    return {
        "id": id,
        "targets": [[button, "click"]],
        "inputs": inputs,
        "outputs": outputs,
        "backend_fn": True,
        "js": None,
        "queue": True,
        "api_name": function.name,
        "api_visibility": "public",
        "batch": False,
        "cancels": [],
        "types": {"generator": False, "cancel": False},
        "collects_event_data": False,
        "trigger_after": None,
        "trigger_only_on_success": False,
        "trigger_only_on_failure": False,
        "trigger_mode": "once",
        "show_progress": "full",
        "scroll_to_output": False,
        "rendered_in": None,
        "connection": "sse",
        "time_limit": None,
    }


def _props(parameter: Parameter) -> JsonObject:
    shown: JsonObject = {"label": parameter.label, "value": parameter.default}
    if parameter.kind == "slider":
        shown |= {"minimum": parameter.least, "maximum": parameter.most, "step": parameter.step}
    return shown


def _schema(parameter: Parameter) -> Mapping[str, Any]:
    if parameter.kind == "checkbox":
        return {"type": "boolean"}
    if parameter.kind == "slider":
        told = f"numeric value between {parameter.least:g} and {parameter.most:g}"
        return {"type": "number", "description": told}
    return _ANYTHING


def _endpoint(function: Function) -> JsonObject:
    returned: list[JsonObject] = []
    if function.plots:
        returned.append(
            {
                "label": "Forecast",
                "type": _PLOT,
                "python_type": _python("dict(type: str, plot: str)"),
                "component": "Plot",
            }
        )
    returned.append({"label": "Result", "type": _ANYTHING, "python_type": _python("dict"), "component": "Json"})
    return {
        "parameters": [_parameter(p) for p in function.parameters],
        "returns": returned,
        "api_visibility": "public",
        "description": "",
    }


def _parameter(parameter: Parameter) -> JsonObject:
    python = {"checkbox": "bool", "slider": "float", "json": "dict | str"}[parameter.kind]
    example = {"checkbox": True, "slider": parameter.least, "json": {"timestamps": [], "open": []}}[parameter.kind]
    return {
        "label": parameter.label,
        "parameter_name": parameter.name,
        "parameter_has_default": parameter.default is not None,
        "parameter_default": parameter.default,
        "type": _schema(parameter),
        "python_type": _python(python),
        "component": parameter.kind.capitalize(),
        "example_input": example,
    }


def _python(type: str) -> JsonObject:
    return {"type": type, "description": ""}
