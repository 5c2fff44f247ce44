"""Drawing Kronos' paths: filters of logits, draws by inverse distribution, and the loop over steps.

Every number of chance is drawn beforehand, step by step, from one generator a series: what a path becomes depends on
neither batch, cache nor horizon.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.base import Array, Sampling
from adapters.kronos.model import KronosModel, Walk
from adapters.seeding import generator_of


def chances(sampling: Sampling, horizon: int, features: Array) -> Tensor:
    """Uniform numbers for s1 and s2 of every step and path, (horizon, 2, paths) float64; steps come in order."""
    return torch.from_numpy(generator_of(sampling.seed, features).random((horizon, 2, sampling.count)))


def filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """(rows, tokens) with -inf for tokens that are never drawn; with `top_k` > 0, `top_p` is not looked at."""
    if top_k > 0:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        return logits.masked_fill(logits < least, float("-inf"))
    if top_p < 1.0:
        ordered, places = logits.sort(descending=True)
        shares = ordered.softmax(-1)
        # A token goes when those before it already make up the share; the first always stays.
        beyond = shares.cumsum(-1) - shares > top_p
        beyond[:, 0] = False
        return logits.masked_fill(beyond.scatter(-1, places, beyond), float("-inf"))
    return logits


def drawn(logits: Tensor, chance: Tensor, sampling: Sampling) -> Tensor:
    """One token a row, (rows, tokens) and (rows,) float64 in [0, 1) -> (rows,) int64."""
    logits = filtered(logits.double() / sampling.temperature, sampling.top_k, sampling.top_p)
    reached = logits.softmax(-1).cumsum(-1)
    return torch.searchsorted(reached, (chance * reached[:, -1]).unsqueeze(-1), right=True).squeeze(-1)


def grown(
    model: KronosModel, history: Tensor, calendar: Tensor, sampling: Sampling, chance: Tensor, max_context: int
) -> Tensor:
    """Tokens of paths that continue a history.

    history (time, 2), calendar (time + horizon, 5) int64, chance (horizon, 2, paths) -> (paths, horizon, 2) int64.
    While history and path fit in `max_context` tokens, each step adds one token to what is computed already. Beyond,
    the window slides: every token has another place, so each step starts anew, on the candles that are left of the
    history and still the same for all paths.
    """
    length, (horizon, _, paths) = len(history), chance.shape
    tokens = history.new_empty(paths, horizon, 2)
    for step in range(horizon):
        if step == 0 or length + step > max_context:
            first = max(0, length + step - max_context)
            walk = Walk(model, history[first:], calendar[first:length], paths, horizon)
            fresh = 0
        else:
            fresh = step - 1
        if step > 0:
            walk.append(tokens[:, fresh:step], calendar[length + fresh : length + step])
        tokens[:, step, 0] = drawn(walk.s1_logits(), chance[step, 0], sampling)
        tokens[:, step, 1] = drawn(walk.s2_logits(tokens[:, step, 0]), chance[step, 1], sampling)
    return tokens
