"""Where callers put their key: one table of headers, the first that holds one counts.

Never a query or a path: those end in logs of proxies and in browsers' histories.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from gateway.errors import Code, GatewayError

_SIGNED = re.compile(r"Credential=([^/,\s]+)/")


def _authorization(value: str) -> str:
    """Bearer (OpenAI, Nixtla and most others), Token (DataRobot), Basic, or the key id of a signed AWS request."""
    scheme, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" | "token" | "apikey" if rest:
            return rest
        case "basic" if rest:
            return _basic(rest)
        case "aws4-hmac-sha256":
            # The signature needs the secret itself, of which only a hash is here: the access key id is the key.
            if found := _SIGNED.search(rest):
                return found[1]
    raise GatewayError(
        Code.UNAUTHENTICATED, "The Authorization header cannot be read. Send it as: Authorization: Bearer <key>."
    )


def _basic(text: str) -> str:
    """`user:key` in base64, or the bare key as some clients send it."""
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return text
    return password if colon and password else user


def _bare(value: str) -> str:
    return value.strip()


HEADERS: Mapping[str, Callable[[str], str]] = {
    "x-api-key": _bare,
    "authorization": _authorization,
    "datarobot-key": _bare,
    "x-hf-authorization": _authorization,  # where Gradio's Python client puts its `token`
}


def sent(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries; None where it carries none. Raises UNAUTHENTICATED for an unreadable one."""
    for name, read in HEADERS.items():
        if headers.get(name):
            return read(headers[name]) or None
    return None
