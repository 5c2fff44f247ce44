"""Work and answers as bytes: a version byte, then msgpack. Arrays are raw bytes; nothing is pickled.

Only the domain's own dataclasses can be written and read. In msgpack, what is not a plain value is an array whose first
element says what it is: 0 a tuple, 1 a list, 2 a mapping, 3 an integer of more than 64 bits, or the name of a type.
Fields that have their default value are left out.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Generator, Mapping
from enum import Enum
from typing import Any, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt

from gateway import domain
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.metadata import Echo
from gateway.errors import Code, Fault, GatewayError

VERSION = 1

T = TypeVar("T")
Steps = Generator[None, None, T]

_TUPLE, _LIST, _MAPPING, _INTEGER = range(4)
_ARRAY = 1  # the extension type of arrays
_DTYPES = ("<f8", "<f4", "<i8", "|b1")

_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (*(getattr(domain, name) for name in domain.__all__), Echo, Fault)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}
_ENUMS: dict[str, type[Enum]] = {"Code": Code, "Format": Format}
_FIELDS = {kind: tuple(dataclasses.fields(kind)) for kind in _TYPES.values()}


def encode(value: object) -> Steps[bytes]:
    """The bytes of a domain value; yields after each member of its long tuples. Raises TypeError for anything else."""
    tree = yield from _written(value)
    return bytes([VERSION]) + _encoder.encode(tree)


def decode(content: bytes, kinds: type[T] | tuple[type[T], ...]) -> Steps[T]:
    """A value that `encode` wrote; yields after each member of its long tuples.

    Raises GatewayError INTERNAL for another version, for other than one of `kinds`, and for bytes that are broken.
    """
    if not content or content[0] != VERSION:
        found = content[0] if content else "no"
        sentence = f"This job was written in version {found} and this gateway reads version {VERSION}."
        raise GatewayError(Code.INTERNAL, f"{sentence} Run gateways and workers of one release.")
    try:
        value = yield from _read(_decode(memoryview(content)[1:]))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError, struct.error):
        raise GatewayError(Code.INTERNAL, "A part of a stored job cannot be read.") from None
    if not isinstance(value, kinds):
        raise GatewayError(Code.INTERNAL, "A stored job holds something else than it should.")
    return value


# -- writing ---


def _written(value: object) -> Steps[object]:
    """`_plain`, with a pause after each member of tuples in the first levels, where the long ones are."""
    if type(value) is tuple:
        members: list[object] = [_TUPLE]
        for member in value:
            members.append(_plain(member))
            yield
        return members
    if type(value) not in _FIELDS:
        return _plain(value)
    written = {}
    for field in _FIELDS[type(value)]:
        content = getattr(value, field.name)
        if not _is_default(field, content):
            written[field.name] = yield from _written(content)
    return [type(value).__name__, written]


def _plain(value: object) -> object:
    """A value as msgpack knows it."""
    kind = type(value)
    if value is None or kind in (str, bytes, bool, float, np.ndarray):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else [_INTEGER, str(value)]  # type: ignore[operator]
    if kind in _FIELDS:
        fields = {
            f.name: _plain(content) for f in _FIELDS[kind] if not _is_default(f, content := getattr(value, f.name))
        }
        return [kind.__name__, fields]
    if kind is tuple:
        return [_TUPLE, *map(_plain, cast(tuple[object, ...], value))]
    if kind is list:
        return [_LIST, *map(_plain, cast(list[object], value))]
    if isinstance(value, Mapping):
        return [_MAPPING, {k: _plain(v) for k, v in value.items()}]
    if isinstance(value, Enum):
        return [kind.__name__, value.value]
    if isinstance(value, GatewayError):
        error = {"code": value.code.value, "sentence": value.sentence, "faults": _plain(value.faults)}
        return ["GatewayError", error | {"retry_after_s": value.retry_after_s}]
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{kind.__name__} cannot be part of a job")


def _is_default(field: dataclasses.Field[Any], content: object) -> bool:
    if field.default is None or field.default is False:
        return content is field.default
    if field.default_factory is not dataclasses.MISSING or field.default == ():
        return isinstance(content, (tuple, Mapping)) and not content
    return False


def _array_out(value: object) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray) or value.dtype.str not in _DTYPES:
        raise TypeError(f"{type(value).__name__} cannot be part of a job")
    head = struct.pack(f"<BB{value.ndim}Q", _DTYPES.index(value.dtype.str), value.ndim, *value.shape)
    return msgspec.msgpack.Ext(_ARRAY, head + value.tobytes())


_encoder = msgspec.msgpack.Encoder(enc_hook=_array_out)


# -- reading ---


def _read(tree: object) -> Steps[Any]:
    """`_value`, with a pause after each member of tuples in the first levels."""
    if not isinstance(tree, list):
        return tree
    tag = tree[0]
    if tag == _TUPLE and type(tag) is int:
        members = []
        for member in tree[1:]:
            members.append(_value(member))
            yield
        return tuple(members)
    if tag not in _TYPES:
        return _value(tree)
    fields = {}
    for name, content in tree[1].items():
        fields[name] = yield from _read(content)
    return _made(_TYPES[tag], fields)


def _value(tree: object) -> Any:
    if not isinstance(tree, list):
        return tree
    tag, *rest = tree
    if tag == _TUPLE:
        return tuple(map(_value, rest))
    if tag == _LIST:
        return list(map(_value, rest))
    if tag == _MAPPING:
        return {k: _value(v) for k, v in rest[0].items()}
    if tag == _INTEGER:
        return int(rest[0])
    if tag in _ENUMS:
        return _ENUMS[tag](rest[0])
    if tag == "GatewayError":
        e = rest[0]
        return GatewayError(
            Code(e["code"]), e["sentence"], faults=_value(e["faults"]), retry_after_s=e["retry_after_s"]
        )
    if tag in _TYPES:
        return _made(_TYPES[tag], {name: _value(content) for name, content in rest[0].items()})
    raise GatewayError(Code.INTERNAL, f"A stored job holds a value of the unknown type {tag!r}.")


def _made(kind: type, fields: dict[str, Any]) -> object:
    try:
        return kind(**fields)
    except TypeError as exc:
        raise GatewayError(Code.INTERNAL, f"A stored job does not fit this release: {exc}.") from None


def _array_in(code: int, data: memoryview) -> npt.NDArray[Any]:
    if code != _ARRAY:
        raise GatewayError(Code.INTERNAL, f"A stored job holds an extension of the unknown type {code}.")
    dtype, ndim = data[0], data[1]
    shape = struct.unpack_from(f"<{ndim}Q", data, 2)
    # A copy: aligned, and it does not keep the whole message alive.
    return np.frombuffer(data[2 + 8 * ndim :], dtype=_DTYPES[dtype]).reshape(shape).copy()


_decode: Callable[[memoryview], object] = msgspec.msgpack.Decoder(ext_hook=_array_in).decode
