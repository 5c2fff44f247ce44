"""Synthetic time series, drawn in batches from a seed.

Every kind of series is a function `(rng, count, length) -> (count, length) float32`; `mixing.generate` draws from all
of them. One time step is one observation; nothing has a unit, since the model standardises its input.
"""
