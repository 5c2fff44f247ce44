"""The envelope of a body: everything but its long arrays.

A parser holds the interpreter's lock from the first byte to the last. So the long arrays of a large JSON body are cut
out first, by searching for quotes and brackets, and small arrays that name them put in their places. What is left is
parsed at once, and each array when its series is read.

That is right whatever the body holds. A mark inside a string would end that string and leave no JSON, in which case
nothing is cut; a mark anywhere else is an array in the place of an array, and comes back as the text it stands for
before anybody looks into it.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from gateway.dialects.base import Steps
from gateway.dialects.canonical import slices
from gateway.dialects.canonical.media import Format

LARGE = 128 * 1024  # bytes of a body; a smaller one is parsed in half a millisecond
LONG = 512  # bytes of an array worth cutting out: what 10,000 short series leave is parsed in some milliseconds

_LISTS = (b'"inputs', b'"requests')  # what is read member by member

_KEYED_ARRAY = re.compile(rb'"\s*:\s*(?=\[)')
_SIGN = b'"@'
_MARK = re.compile(rb'\[\["@(\d+)"\]\]')


class Envelope(msgspec.Struct, frozen=True):
    """What is left of a body, and the arrays that were cut out of it."""

    content: bytes
    arrays: tuple[bytes, ...] = ()

    def whole(self, part: Raw) -> Raw:
        """A part of the content as it was sent; raises msgspec.DecodeError where an array within it is no JSON."""
        if not self.arrays:
            return part
        content = bytes(part)
        found, marks = _MARK.subn(lambda mark: self.arrays[int(mark[1])], content)
        if marks and not _MARK.fullmatch(content):  # a mark alone becomes an array, which somebody will read
            msgspec.json.decode(found, type=Raw)
        return Raw(found)

    def check(self) -> Steps[None]:
        """Raise msgspec.DecodeError where an array that the content stands on is no JSON."""
        for mark in _MARK.finditer(self.content):
            for piece in slices.of_array(self.arrays[int(mark[1])], Format.JSON):
                if piece:
                    msgspec.json.decode(piece, type=Raw)
                yield


def of(body: bytes, form: Format, *, large: int = LARGE, long: int = LONG) -> Steps[Envelope]:
    """The envelope of a body. Raises UnicodeDecodeError; arrays, or a body of which nothing was cut, may be no JSON."""
    if form is Format.JSON and len(body) >= large:
        found = yield from _cut(body, long)
        if found.arrays and _is_sound(found):
            return found
    if form is Format.JSON:
        str(body, "utf-8")  # the decoder does not look into what stays raw
    return Envelope(body)


def _cut(body: bytes, long: int) -> Steps[Envelope]:
    """`body` with marks in place of its long arrays, those of `_LISTS` excepted."""
    pieces: list[bytes] = []
    arrays: list[bytes] = []
    done = position = searched = 0
    while position < len(body):
        end = position + slices.WINDOW
        opening = _KEYED_ARRAY.search(body, position, end)
        if opening is None:  # unless it begins with the last quote of the window
            position = max(body.rfind(b'"', position + 1, end), 0) or end
            yield
            continue
        start = opening.end()
        quote = body.find(b'"', start)
        brace = body.find(b"}", start, quote if quote >= 0 else len(body))
        position = next((p for p in (brace, quote) if p >= 0), len(body))
        end = body.rfind(b"]", start, position) + 1
        if end - start >= long and not body.endswith(_LISTS, 0, opening.start()):
            pieces += (body[done:start], b'[[%s%d"]]' % (_SIGN, len(arrays)))
            arrays.append(body[start:end])
            done = end
            yield
        searched += 1
        if searched % 256 == 0:
            yield
    return Envelope(b"".join((*pieces, body[done:])), tuple(arrays))


def _is_sound(cut: Envelope) -> bool:
    """Whether the marks are the only ones of their kind and stand where values do."""
    try:
        str(cut.content, "utf-8")
        msgspec.json.decode(cut.content, type=Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return cut.content.count(_SIGN) == len(cut.arrays)
