"""A training that can be stopped: weights, their average, both optimizers and the position, in at most 16 MiB.

Moments, and the average's distance to the weights, are kept in bfloat16. `save` rounds the running training to what
it wrote, so that going on and resuming are the same computation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.config import Config, Optimizer
from training.model import build
from training.muon import Muon

FILE = "state.safetensors"


@dataclass
class Training:
    """All that changes while training."""

    model: ChronosBoltModelForForecasting
    average: dict[str, Tensor]  # by parameter name
    muon: Muon
    adam: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0  # spent in training, over all resumptions

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Parameters that are trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    inside = name.startswith(("encoder.block", "decoder.block")) or name.endswith("hidden_layer.weight")
    return inside and parameter.ndim == 2 and "relative_attention_bias" not in name


def _optimizers(model: ChronosBoltModelForForecasting, settings: Optimizer) -> tuple[Muon, torch.optim.AdamW]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if _is_block_matrix(name, p)]
    rest = [p for name, p in named if not _is_block_matrix(name, p)]
    adam = torch.optim.AdamW(rest, lr=settings.adam_rate, betas=settings.adam_betas, weight_decay=0.0)
    return Muon(matrices, settings.muon_rate, settings.muon_momentum), adam


def begin(config: Config, device: str = "cpu") -> Training:
    """A training at step 0."""
    model = build(config.model, config.seed).to(device)
    for block in model.decoder.block:  # one token attends to itself whatever its query and key
        attention = block.layer[0].SelfAttention
        for part in (attention.q, attention.k, getattr(attention, "relative_attention_bias", None)):
            if part is not None:
                part.weight.requires_grad_(False)
    muon, adam = _optimizers(model, config.optimizer)
    average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return Training(model, average, muon, adam)


def _moments(training: Training) -> dict[str, Tensor]:
    """The optimizers' tensors by name."""
    found = {}
    for name, p in training.parameters().items():
        for moment in ("velocity", "exp_avg", "exp_avg_sq"):
            state = training.muon.state.get(p) or training.adam.state.get(p) or {}
            if moment in state:
                found[f"{moment}.{name}"] = state[moment]
    return found


def save(training: Training, folder: Path) -> None:
    """Write the state, replacing an older one at once, and round `training` to what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, p in training.parameters().items():
        tensors[f"weight.{name}"] = p.detach().cpu().contiguous()
        tensors[f"average.{name}"] = (training.average[name] - p.detach()).bfloat16().cpu().contiguous()
    for name, moment in _moments(training).items():
        tensors[name] = moment.bfloat16().cpu().contiguous()
    position = {"step": training.step, "seconds": training.seconds}
    draft = folder / f"{FILE}.part"
    save_file(tensors, draft, metadata={"position": json.dumps(position)})
    draft.replace(folder / FILE)
    resume(training, folder)


@torch.no_grad()
def resume(training: Training, folder: Path) -> None:
    """Set `training` to the state in `folder`."""
    with safe_open(folder / FILE, framework="pt") as file:
        position = json.loads(file.metadata()["position"])
        names = set(file.keys())
        for name, p in training.parameters().items():
            p.copy_(file.get_tensor(f"weight.{name}"))
            training.average[name].copy_(p).add_(file.get_tensor(f"average.{name}").to(p))
            if f"velocity.{name}" in names:
                training.muon.state[p]["velocity"] = file.get_tensor(f"velocity.{name}").to(p)
            if f"exp_avg.{name}" in names:
                training.adam.state[p].update(
                    step=torch.tensor(float(position["step"])),
                    exp_avg=file.get_tensor(f"exp_avg.{name}").to(p),
                    exp_avg_sq=file.get_tensor(f"exp_avg_sq.{name}").to(p),
                )
    training.step, training.seconds = position["step"], position["seconds"]
