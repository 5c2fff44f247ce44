"""A folder's model.safetensors, taken tensor by tensor: for families whose network is our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


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
