"""What a Chronos-Bolt folder's config.json holds, read without transformers."""

from __future__ import annotations

from pathlib import Path

import msgspec


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
