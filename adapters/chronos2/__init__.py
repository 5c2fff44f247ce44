"""Chronos-2: joint channels, covariates of the past and the future, and cross-learning in one pass."""

from adapters.chronos2.adapter import Chronos2

__all__ = ["Chronos2"]
