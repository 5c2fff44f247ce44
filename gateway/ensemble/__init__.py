"""Backtests, scores and blends: pure arithmetic over arrays; `service` and `jobs` run what it plans."""
