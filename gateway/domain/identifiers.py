"""Names that nobody else has."""

from __future__ import annotations

import random


def new_id() -> str:
    """A random UUID, and no secret; the standard library's asks the system for each, and takes four times as long."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
