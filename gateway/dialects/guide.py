"""What people are told of a dialect: prose, and a table of odd requests that tests hold it to."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import msgspec
from msgspec import Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One golden exchange, as the OpenAPI document shows it."""

    name: str
    request: bytes  # JSON
    response: bytes  # JSON
    summary: str = ""
    status: int = 200


class OddRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request out of the ordinary and what is answered: a row of a dialect's page, and a test."""

    sent: str  # what is odd about it, for people
    method: str = "POST"
    path: str
    body: Raw = Raw(b"")  # a JSON value, or a string that is sent as it stands
    status: int
    answer: Raw  # JSON that the answer holds: further keys are allowed

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        body = bytes(self.body)
        return msgspec.json.decode(body, type=str).encode() if body.startswith(b'"') else body


def odd_requests(table: bytes) -> tuple[OddRequest, ...]:
    """The rows of a JSON file."""
    return msgspec.json.decode(table, type=tuple[OddRequest, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What the page of a dialect says; its exchanges are the examples of the operations' documentation.

    Every text is plain, with `code` between backticks.
    """

    title: str
    summary: str
    moving: tuple[str, ...]  # steps to move here, in order
    supported: tuple[str, ...]
    unsupported: tuple[str, ...]  # and what is answered otherwise than by the system itself
    odd: tuple[OddRequest, ...] = ()
    exchanges: str = ""  # what is to be known of the requests and answers shown


# -- the files beside a dialect ---


def resource(package: str, name: str) -> bytes:
    """A file that lies in a package."""
    return (files(package) / name).read_bytes()


def exchange(package: str, name: str, summary: str, status: int = 200) -> Example:
    """The golden exchange whose two bodies lie in a package: `<name>.request.json` and `<name>.response.json`."""
    return Example(
        name=name,
        summary=summary,
        status=status,
        request=resource(package, f"{name}.request.json"),
        response=resource(package, f"{name}.response.json"),
    )
