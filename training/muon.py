"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal by Newton-Schulz iterations."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor
from torch.optim import Optimizer


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearly the nearest orthogonal matrices to a stack of (rows, columns) with rows <= columns.

    Quintic iteration with the published coefficients: singular values end between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(Optimizer):
    """For matrices only; those of one shape are updated as one stack."""

    def __init__(self, matrices: list[Tensor], lr: float, momentum: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    stacks[matrix.shape].append(matrix)
            for shape, matrices in stacks.items():
                self._update(matrices, group["lr"] * max(1, shape[0] / shape[1]) ** 0.5, group["momentum"])

    def _update(self, matrices: list[Tensor], rate: float, momentum: float) -> None:
        directions = []
        for matrix in matrices:
            velocity = self.state[matrix].setdefault("velocity", torch.zeros_like(matrix))
            slope = matrix.grad
            assert slope is not None  # `step` passes on no others
            velocity.lerp_(slope, 1 - momentum)
            directions.append(slope.lerp(velocity, momentum))
        stack = torch.stack(directions)
        tall = stack.shape[1] > stack.shape[2]
        updates = orthogonal(stack.transpose(1, 2) if tall else stack)
        for matrix, update in zip(matrices, updates.transpose(1, 2) if tall else updates, strict=True):
            matrix.add_(update, alpha=-rate)
