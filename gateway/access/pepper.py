"""The secret that keyed hashes and signed sessions of one installation are made with.

It lies beside the data and not in the database: who reads only the one of them can do nothing with it. Gateways that
share a database share the pepper, by their data folder or by the setting `key_pepper`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from gateway.errors import Code, GatewayError

FILE = "key.pepper"
SIZE = 32  # bytes


def read(data_dir: str | Path, setting: str = "") -> bytes:
    """The pepper, 32 bytes: of `setting` where it is set, else of the data folder's file, made once.

    Several processes may ask at once: one makes the file, all get the same bytes. Raises GatewayError where the file
    cannot be read or made.
    """
    if setting:
        return hashlib.blake2b(setting.encode(), digest_size=SIZE, person=b"key_pepper").digest()
    path = Path(data_dir).expanduser() / FILE
    try:
        if not path.exists():
            _make(path)
        found = path.read_bytes()
    except OSError as exc:
        raise GatewayError(Code.UNAVAILABLE, f"The key pepper {path} cannot be read: {exc.strerror}.") from None
    if len(found) != SIZE:
        raise GatewayError(Code.UNAVAILABLE, f"The key pepper {path} is not {SIZE} bytes long: restore it.")
    return found


def derive(pepper: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: what signs sessions can neither be used for nor learned from another."""
    return hashlib.blake2b(purpose.encode(), digest_size=SIZE, key=pepper).digest()


def _make(path: Path) -> None:
    """Write a new pepper whole before it has its name; where another process was first, its own stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SIZE))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
