"""What a Chronos-Bolt folder holds: config.json and model.safetensors, read without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


class Patching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of config.json under `chronos_config`. A field that is not here is a model we do not know."""

    context_length: int
    prediction_length: int
    input_patch_size: int
    input_patch_stride: int
    quantiles: tuple[float, ...]
    use_reg_token: bool = False


class BoltConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The part of config.json that shapes the network; defaults are those of the T5 configuration."""

    architectures: tuple[str, ...]
    chronos_config: Patching
    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int
    decoder_start_token_id: int = 0
    feed_forward_proj: str = "relu"
    layer_norm_epsilon: float = 1e-6
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128

    @property
    def is_known(self) -> bool:
        """Whether the lean path computes exactly this network."""
        return (
            self.architectures == ("ChronosBoltModelForForecasting",)
            and self.feed_forward_proj == "relu"
            and self.chronos_config.input_patch_stride == self.chronos_config.input_patch_size
        )


def known_config(folder: Path) -> BoltConfig | None:
    """The configuration in `folder` where the lean path knows it, else None.

    Raises ValueError when there is no readable config.json at all.
    """
    try:
        content = msgspec.json.decode((folder / "config.json").read_bytes())
    except (OSError, msgspec.DecodeError) as exc:
        raise ValueError(f"{folder} has no readable config.json ({exc})") from exc
    try:
        config = msgspec.convert(content, BoltConfig)
    except msgspec.ValidationError:
        return None
    return config if config.is_known else None


class Checkpoint:
    """The tensors of a folder's model.safetensors, taken by name and shape."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError when the file is missing or damaged."""
        try:
            self._tensors = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError) as exc:
            raise ValueError(f"{folder} has no readable model.safetensors ({exc})") from exc

    @property
    def names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(self._tensors)

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """The tensor `name` in float32, a copy of its own; raises ValueError where it is not of `shape`."""
        tensor: torch.Tensor | None = self._tensors.get(name)
        if tensor is None:
            raise ValueError(f"the checkpoint has no tensor {name}")
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has the shape {_form(tensor.shape)}, its config.json says {_form(shape)}")
        # The stored tensor is a view of the mapped file, which an operator may replace while we run.
        return tensor.to(torch.float32, copy=True)


def _form(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
