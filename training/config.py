"""The typed form of `config.toml`."""

from __future__ import annotations

from pathlib import Path

import msgspec

DEFAULT = Path(__file__).with_name("config.toml")


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of the network, in the words of T5 and Chronos-Bolt."""

    d_model: int
    d_ff: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    patch: int
    context: int
    horizon: int
    distance_buckets: int
    initializer_factor: float
    quantile_levels: tuple[float, ...]


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one step is trained on."""

    full: int
    shorter: int
    groups: int
    shortest: int
    missing: float
    combined: float
    workers: int
    shares: dict[str, float]


class Optimizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates and averages."""

    muon_rate: float
    adam_rate: float
    muon_momentum: float
    adam_betas: tuple[float, float]
    clip_norm: float
    average_decay: float
    spread_floor: float


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to train, and how the rate falls on the way."""

    warmup_steps: int
    hold: float
    minutes: float
    steps: int
    save_minutes: float

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, by steps or by seconds of training, whichever is further."""
        return min(max(step / self.steps, seconds / (self.minutes * 60)), 1.0)

    def rate(self, step: int, seconds: float) -> float:
        """Factor on the peak rates: linear warm-up, constant, linear to zero."""
        left = 1 - self.progress(step, seconds)
        return min((step + 1) / max(self.warmup_steps, 1), left / (1 - self.hold), 1.0)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training, wholly described."""

    seed: int
    model: Shape
    data: Data
    optimizer: Optimizer
    schedule: Schedule


def load(path: Path = DEFAULT) -> Config:
    """Read a configuration; raises msgspec.ValidationError naming the field at fault."""
    return msgspec.toml.decode(path.read_bytes(), type=Config)
