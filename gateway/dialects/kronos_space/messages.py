"""What a session hears of its events, as server-sent events of Gradio's protocol `sse_v3`.

`/gradio_api/queue/data` sends every message as it is; `/gradio_api/call/...` has a form for curl that shows only what
came out. Neither may hold comments: Gradio's Python client takes nothing but `data:`.
"""

from __future__ import annotations

import msgspec

from gateway.dialects.kronos_space.results import Plot, Result

MEDIA_TYPE = "text/event-stream"
ERROR_SHOWN_S = 10  # how long a page of Gradio shows an error


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="msg"):
    """Anything that a session is told."""

    event_id: str | None = None


class Estimation(Message, frozen=True, kw_only=True, tag="estimation"):
    """An event stands in the queue."""

    rank: int
    queue_size: int
    rank_eta: float | None = None


class ProcessStarts(Message, frozen=True, kw_only=True, tag="process_starts"):
    """An event is being worked on."""

    eta: float | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a function."""

    data: list[Plot | Result]
    is_generating: bool = False
    duration: float
    average_duration: float
    render_config: None = None
    changed_state_ids: tuple[int, ...] = ()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing came out. Gradio's Python client takes no further keys."""

    error: str
    duration: float = ERROR_SHOWN_S
    visible: bool = True
    title: str = "Error"


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """The output of an event that was cancelled."""


class ProcessCompleted(Message, frozen=True, kw_only=True, tag="process_completed"):
    """An event is over."""

    output: Output | Failure | Nothing
    success: bool
    title: str | None = None


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """Nothing new; keeps the connection alive."""


class UnexpectedError(Message, frozen=True, kw_only=True, tag="unexpected_error"):
    """There will be nothing more: no such session."""

    message: str
    session_not_found: bool = False
    success: bool = False


class CloseStream(Message, frozen=True, kw_only=True, tag="close_stream"):
    """All events of the session are over."""


NOT_FOUND = UnexpectedError(message="404: Not Found", session_not_found=True)


def failed(event_id: str, sentence: str) -> ProcessCompleted:
    """The end of an event that failed."""
    return ProcessCompleted(event_id=event_id, output=Failure(error=sentence), success=False, title="Error")


def data(message: Message) -> bytes:
    """A message for Gradio's clients."""
    return b"data: %s\n\n" % msgspec.json.encode(message)


def named(message: Message) -> bytes:
    """A message for curl: `complete` with the values, `error`, `heartbeat`; empty for what it does not show."""
    match message:
        case ProcessCompleted(output=Output(data=values)):
            return _event("complete", msgspec.json.encode(values))
        case ProcessCompleted(output=Nothing()):
            return _event("complete", b"null")
        case ProcessCompleted():
            return _event("error", msgspec.json.encode(message.output))
        case Heartbeat():
            return _event("heartbeat", b"null")
        case UnexpectedError():
            return _event("error", msgspec.json.encode(message.message))
        case _:
            return b""


def _event(name: str, content: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), content)
