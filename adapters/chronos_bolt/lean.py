"""Chronos-Bolt's forward pass in plain torch, over the checkpoint's own weights.

The network is that of `chronos.chronos_bolt` (Ansari et al., arXiv 2403.07815, and its Bolt release) on T5
(Raffel et al., arXiv 1910.10683); the numbers agree to float32 rounding. What is done differently, and why:

- A layer norm's weight is folded into the projection behind it, and query, key and value are one product: fewer
  and larger products.
- The relative position bias depends on distances only: one table for the longest context, and every shorter one
  is its corner. Without a gap of a whole patch no mask is made.
- The decoder reads a single start token. Attention of one token to itself is its value, so self-attention is one
  matrix, and all of layer 0 before the encoder comes in is a constant.
- With a single query, cross-attention need not project every token to keys and values: (x Wk) q = x (Wk q) and
  sum a (x Wv) = (sum a x) Wv. The query goes through Wk once, the weighted mean through Wv once.

Shapes: r rows (one channel each), n tokens, d model width, h heads, k head width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from adapters.checkpoint import Checkpoint
from adapters.chronos_bolt.checkpoint import BoltConfig
from adapters.chronos_bolt.layers import DecoderLayer, LayerReader, normed

SCALE_OF_CONSTANT = 1e-5  # upstream's: what a constant row is divided by


class LeanBolt:
    """A loaded model. `predict` is all it does; it holds no state between calls."""

    def __init__(self, config: BoltConfig, checkpoint: Checkpoint, device: str, dtype: str) -> None:
        """Raises ValueError where a tensor is missing or of another shape than the configuration says."""
        patching = config.chronos_config
        self.levels = patching.quantiles
        self.context_length = patching.context_length
        self.patch = patching.input_patch_size
        self.block = patching.prediction_length
        self._heads = config.num_heads
        self._device = torch.device(device)
        self._dtype = _floating(dtype)
        reader = LayerReader(config, checkpoint, self._device, self._dtype)
        self._embed = reader.patch_embedding(2 * self.patch)
        self._register = reader.register_token()
        self._bias = reader.position_bias(self._tokens(self.context_length))
        self._floor = reader.norm_floor()
        self._encoder = [reader.encoder_layer(i) for i in range(config.num_layers)]
        self._decoder = [reader.decoder_layer(i) for i in range(config.num_decoder_layers)]
        self._start = reader.start_token()
        # Layer 0 asks the same of every context: its self-attention is in the start token from here on.
        self._first_sought = self._ask(self._start, self._decoder[0])
        self._head = reader.head(len(self.levels) * self.block)
        self._quantiles = torch.tensor(self.levels, device=self._device)

    @torch.inference_mode()
    def predict(self, context: Tensor, horizon: int) -> Tensor:
        """Quantiles of the next `horizon` steps, as trained: they may cross.

        context (rows, time) float32, NaN where missing -> (rows, levels, horizon) float32 on the CPU. A horizon
        beyond one block continues as upstream does: each level's path is appended to the context, and the levels
        of all paths' forecasts are reduced to their quantiles.
        """
        context = context[:, -self.context_length :].to(self._device)
        blocks = [self._forward(context)]
        paths = context.unsqueeze(1).expand(-1, len(self.levels), -1)
        while len(blocks) * self.block < horizon:
            paths = torch.cat([paths, blocks[-1]], dim=-1)[..., -self.context_length :]
            spread = self._forward(paths.flatten(0, 1)).view(len(context), -1, self.block)
            blocks.append(torch.quantile(spread, self._quantiles, dim=1).transpose(0, 1))
        return torch.cat(blocks, dim=-1)[..., :horizon].cpu()

    def ahead(self, context: Tensor, gaps: bool) -> tuple[Tensor]:
        """The block (rows, levels, block) after `context` (rows, time), both on the device.

        `gaps`: whether a patch may be without observation. Nothing here looks at a number of `context`, so that a
        CUDA graph can hold it.
        """
        return (self._forward(context, gaps),)

    def _forward(self, context: Tensor, gaps: bool | None = None) -> Tensor:
        """(rows, time) -> (rows, levels, block); `gaps` None: see whether there are any"""
        rows = len(context)
        centre = context.nanmean(-1, keepdim=True).nan_to_num_(nan=0.0)
        scale = (context - centre).square_().nanmean(-1, keepdim=True).sqrt_().nan_to_num_(nan=1.0)
        scale.masked_fill_(scale == 0, SCALE_OF_CONSTANT)
        patches, observed = self._patched((context - centre) / scale, gaps)
        encoded = self._encode(patches, observed)
        forecast = self._decode(encoded, observed).float()
        return (forecast * scale + centre).view(rows, len(self.levels), self.block)

    def _tokens(self, length: int) -> int:
        """Tokens of a context, the register token included."""
        return math.ceil(length / self.patch) + (self._register is not None)

    def _patched(self, context: Tensor, gaps: bool | None) -> tuple[Tensor, Tensor | None]:
        """Patches with their masks, and which tokens hold an observation (None: all do).

        (rows, time) -> (rows, patches, 2 patch), (rows, tokens) bool
        """
        context = pad(context, (-context.shape[1] % self.patch, 0), value=math.nan)
        missing = context.isnan()
        values = context.masked_fill(missing, 0.0).view(len(context), -1, self.patch)
        known = missing.logical_not_().view(len(context), -1, self.patch)
        patches = torch.cat([values, known.to(values.dtype)], dim=-1).to(self._dtype)
        observed = known.any(-1)
        if gaps is None:
            gaps = not observed.all()
        if not gaps:
            return patches, None
        return patches, observed if self._register is None else pad(observed, (0, 1), value=True)

    def _encode(self, patches: Tensor, observed: Tensor | None) -> Tensor:
        """(rows, patches, 2 patch) -> (rows, tokens, d), normed; the norm's weight is the decoder's business"""
        rows = len(patches)
        tokens = self._embed(patches.flatten(0, 1)).view(rows, patches.shape[1], -1)
        if self._register is not None:
            tokens = torch.cat([tokens, self._register.expand(rows, 1, -1)], dim=1)
        count = tokens.shape[1]
        bias = self._bias[..., :count, :count]
        if observed is not None:
            bias = bias.masked_fill(observed.logical_not()[:, None, None, :], -math.inf)
        x = tokens.flatten(0, 1)
        for layer in self._encoder:
            projected = torch.mm(normed(x, self._floor), layer.query_key_value)
            query, key, value = projected.view(rows, count, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
            x.addmm_(mixed.transpose(1, 2).flatten(2).flatten(0, 1), layer.output)
            layer.feed_forward.add_to(x, self._floor)
        return normed(x, self._floor).view(rows, count, -1)

    def _decode(self, encoded: Tensor, observed: Tensor | None) -> Tensor:
        """(rows, tokens, d) -> (rows, levels x block)"""
        rows = len(encoded)
        unseen = None if observed is None else observed.logical_not().unsqueeze(1)
        x, sought = self._start.repeat(rows, 1), self._first_sought.expand(rows, -1, -1)
        for index, layer in enumerate(self._decoder):
            if index > 0:
                sought = self._ask(x, layer)
            score = torch.bmm(sought, encoded.transpose(1, 2))  # (r, h, n)
            if unseen is not None:
                score.masked_fill_(unseen, -math.inf)
            found = torch.bmm(score.softmax(-1), encoded)  # (r, h, d)
            value = torch.bmm(found.transpose(0, 1), layer.value).transpose(0, 1)  # (r, h, k)
            x.addmm_(value.flatten(1), layer.output)
            layer.feed_forward.add_to(x, self._floor)
        return self._head(normed(x, self._floor))

    def _ask(self, x: Tensor, layer: DecoderLayer) -> Tensor:
        """Add self-attention to x (rows, d) in place, and say what each head looks for, (rows, h, d)."""
        x.addmm_(normed(x, self._floor), layer.itself)
        query = torch.mm(normed(x, self._floor), layer.query).view(len(x), self._heads, -1)
        return torch.bmm(query.transpose(0, 1), layer.key).transpose(0, 1)


def _floating(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ValueError(f"Chronos-Bolt computes in {', '.join(dtypes)}, not in {name}")
    return dtypes[name]
