"""A body that is not JSON or not msgpack: the error, with the byte and the place where it ends to be one."""

from __future__ import annotations

import re

import msgspec

from gateway.dialects.base import Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.walk import shown
from gateway.errors import Code, Fault, GatewayError, Place

_AT_BYTE = re.compile(r"(?:.*malformed: )?(.*) \(byte (\d+)\)$")
_LITERAL = re.compile(rb"-?(?:NaN|Infinity)\b")
# Strings (to the end of what is looked at where they are not closed), runs of rows, runs of numbers, brackets, and
# what else there is. All but strings are short enough for a step of many.
_TOKEN = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|(?:\[[^][{}"]{0,256}\]\s{0,64},\s{0,64}){1,64}|(?:,[-+.\w\s]{0,64}){1,64}|[][{}]'
    rb'|[^][{}",]{1,4096}',
    re.DOTALL,
)
_TOKENS_A_STEP, _BYTES_A_STEP = 256, 64 * 1024
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def too_deep() -> GatewayError:
    """The error to answer for a body on whose nesting the parser gave up."""
    return GatewayError(Code.MALFORMED, "The body is nested too deeply to be read.")


def error(body: bytes, form: Format, failure: Exception) -> Steps[GatewayError]:
    """The error to answer for a body of which some part could not be decoded."""
    name = "JSON" if form is Format.JSON else "msgpack"
    if not body:
        return GatewayError(Code.MALFORMED, f"The body is empty (byte 0); send a {name} object.")
    yield  # what failed was as long a step as the next
    whole = yield from _of_all(body, form)
    offset, what = _where(body, form, whole or failure)
    if form is Format.MSGPACK:
        return GatewayError(Code.MALFORMED, f"The body is not msgpack: {what} at byte {offset}.")
    hint = ""
    literal = _LITERAL.match(body, offset - 1 if body[offset - 1 : offset] == b"-" else offset)
    if literal:
        offset, what = literal.start(), literal[0].decode()
        hint = " JSON has no NaN and no Infinity; send null for a missing value."
    elif body.startswith(_BOMS):
        what = "a byte order mark"
        hint = " JSON is sent as UTF-8 without one."
    place = yield from place_at(body, offset)
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
    sentence = f"The body is not JSON: {what} at byte {offset}{f', {path}' if path else ''}.{hint}"
    return GatewayError(Code.MALFORMED, sentence, faults=(Fault(place, f"Not JSON: {what} (byte {offset}).{hint}"),))


def _of_all(body: bytes, form: Format) -> Steps[Exception | None]:
    """The failure of the body as a whole, whose offset counts from its start."""
    try:
        if form is Format.MSGPACK:
            end = 0
            for reached in slices.after(body, 0):
                end = reached
                yield
            if end < len(body):
                return msgspec.DecodeError(f"MessagePack data is malformed: trailing characters (byte {end})")
        else:
            str(body, "utf-8")
            msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        return failure
    return None


def _where(body: bytes, form: Format, failure: Exception) -> tuple[int, str]:
    """Byte offset of the failure, and what is wrong there."""
    if isinstance(failure, UnicodeDecodeError):
        text = bytes(failure.object)
        return max(body.find(text), 0) + failure.start, "text that is not UTF-8"
    told = _AT_BYTE.match(str(failure))
    if told is None:
        return len(body), "it ends too early"
    beyond = form is Format.JSON and told[1] == "trailing characters"  # the one case told a byte late
    return int(told[2]) - beyond, told[1]


def place_at(body: bytes, offset: int) -> Steps[Place]:
    """The place of the value that `offset` lies in, by the brackets, keys and commas before it."""
    stack: list[str | int | None] = []  # index in an array; key in an object, None before the key
    step = 0
    for count, token in enumerate(_TOKEN.finditer(body, 0, offset), start=1):
        text = token[0]
        if text == b"[":
            stack.append(0)
        elif text == b"{":
            stack.append(None)
        elif text in (b"]", b"}"):
            del stack[-1:]
        elif text.startswith(b'"'):
            if stack and stack[-1] is None and text[1:].endswith(b'"'):
                stack[-1] = shown(text[1:-1].decode("utf-8", "replace"))
        elif stack and (members := text.count(b"]") or text.count(b",")):
            top = stack[-1]
            stack[-1] = top + members if isinstance(top, int) else None
        if count % _TOKENS_A_STEP == 0 or token.end() > step + _BYTES_A_STEP:
            step = token.end()
            yield
    return tuple(p for p in stack if p is not None)
