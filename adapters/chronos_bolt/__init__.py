"""Chronos-Bolt: patches in, quantiles of a block of steps out.

`adapter` turns series into rows and back; `lean` is the forward pass over the checkpoint's own weights, which is
chosen where `checkpoint` knows the configuration; `upstream` runs the `chronos` library for all others.
"""

from adapters.chronos_bolt.adapter import ChronosBolt

__all__ = ["ChronosBolt"]
