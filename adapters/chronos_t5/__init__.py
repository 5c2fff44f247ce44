"""Chronos-T5: values become tokens, and forecasts are sampled paths of tokens.

`adapter` turns series into rows and paths back into forecasts; `network` runs encoder and decoder over the library's
own modules; `drawing` picks tokens by their probabilities.
"""

from adapters.chronos_t5.adapter import ChronosT5

__all__ = ["ChronosT5"]
