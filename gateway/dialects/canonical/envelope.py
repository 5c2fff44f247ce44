"""The envelope of a request, with its long arrays left raw.

A parser holds the interpreter's lock from the first byte to the last. So the long arrays of a large JSON body are cut
out first, by searching for quotes and brackets, and strings like "@17" put in their places; what is left is parsed at
once and the arrays one by one. That is right whatever the body holds: each such string must come back as the whole
value of a target or a covariate, where any JSON value may stand; else the body is parsed as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical.media import Format
from gateway.dialects.canonical.types import ForecastEnvelope, SeriesEnvelope

_DECODERS: Mapping[Format, Callable[[bytes], ForecastEnvelope]] = {
    Format.JSON: msgspec.json.Decoder(ForecastEnvelope).decode,
    Format.MSGPACK: msgspec.msgpack.Decoder(ForecastEnvelope).decode,
}
LARGE = 128 * 1024  # bytes of a body; a smaller one is scanned in half a millisecond
LONG = 4096  # bytes of an array worth cutting out
_KEYED_ARRAY = re.compile(rb'"\s*:\s*(?=\[)')
_MARK = b'"@'


def read(body: bytes, form: Format, *, large: int = LARGE, long: int = LONG) -> Steps[ForecastEnvelope]:
    """Raises msgspec.DecodeError or UnicodeDecodeError; arrays may still be faulty or no JSON."""
    if form is Format.JSON and len(body) >= large:
        skeleton, arrays = yield from _cut(body, long)
        found = _restored(skeleton, arrays) if arrays else None
        if found is not None:
            return found
    return _parsed(body, form)


def _parsed(body: bytes, form: Format) -> ForecastEnvelope:
    if form is Format.JSON:
        str(body, "utf-8")  # what stays raw is not checked by the decoder
    return _DECODERS[form](body)


def _cut(body: bytes, long: int) -> Steps[tuple[bytes, list[bytes]]]:
    """`body` with marks in place of its long arrays, and the arrays."""
    pieces: list[bytes] = []
    arrays: list[bytes] = []
    done = position = 0
    while opening := _KEYED_ARRAY.search(body, position):
        start = opening.end()
        quote = body.find(b'"', start)
        brace = body.find(b"}", start, quote if quote >= 0 else len(body))
        position = next((p for p in (brace, quote) if p >= 0), len(body))
        end = body.rfind(b"]", start, position) + 1
        if end - start >= long:
            pieces += (body[done:start], b'%s%d"' % (_MARK, len(arrays)))
            arrays.append(body[start:end])
            done = end
            yield
    return b"".join((*pieces, body[done:])), arrays


def _restored(skeleton: bytes, arrays: list[bytes]) -> ForecastEnvelope | None:
    """The envelope with its arrays back; None where a mark is not the value of a target or a covariate."""
    if skeleton.count(_MARK) != len(arrays):
        return None
    try:
        envelope = _parsed(skeleton, Format.JSON)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    used = 0

    def back(raw: Raw) -> Raw:
        nonlocal used
        mark = bytes(raw)
        if not mark.startswith(_MARK):
            return raw
        used += 1
        return Raw(arrays[int(mark[len(_MARK) : -1])])

    def covariates(sent: Mapping[str, Raw] | None) -> dict[str, Raw] | None:
        return None if sent is None else {name: back(raw) for name, raw in sent.items()}

    inputs: list[SeriesEnvelope] = [
        msgspec.structs.replace(
            sent,
            target=back(sent.target),
            past_covariates=covariates(sent.past_covariates),
            future_covariates=covariates(sent.future_covariates),
        )
        for sent in envelope.inputs
    ]
    return msgspec.structs.replace(envelope, inputs=inputs) if used == len(arrays) else None
