"""Notices for callers of a format that has no place for them: a header beside the answer."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.domain import Notice

HEADER = "x-forecast-notices"
LONGEST = 2000  # characters: some proxies refuse headers over 4 KB


def header(notices: Iterable[Notice], *own: str) -> dict[str, str]:
    """Each sentence once, the dialect's `own` first; nothing where there is nothing to say."""
    sentences = dict.fromkeys([*own, *(n.sentence for n in notices)])
    if not sentences:
        return {}
    text = " ".join(sentences).encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    return {HEADER: text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."}
