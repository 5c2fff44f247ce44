"""Kronos: candles to tokens, sampled paths of tokens, and back (Shi et al., arXiv 2508.02739).

`candles` is the numpy side: features, scale, calendar; `tokenizer` and `model` are the two networks on `blocks`;
`sampling` draws; `adapter` puts them together. There is no library of this family: the weights are read from their
published layout.
"""

from adapters.kronos.adapter import Kronos

__all__ = ["Kronos"]
