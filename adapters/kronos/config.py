"""What the config.json of a Kronos model and of its tokenizer hold."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a tokenizer. The published count of layers is one more than there are."""

    d_in: int
    d_model: int
    n_heads: int
    ff_dim: int
    n_enc_layers: int
    n_dec_layers: int
    s1_bits: int
    s2_bits: int


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a model."""

    d_model: int
    n_heads: int
    ff_dim: int
    n_layers: int
    s1_bits: int
    s2_bits: int


def read_config(folder: Path, kind: type[S]) -> S:
    """The config.json in `folder` as `kind`; raises ValueError where it is missing or another family's."""
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as exc:
        raise ValueError(f"{folder} has no readable config.json of Kronos ({exc})") from exc
