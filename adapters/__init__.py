"""How to run a model: arrays in, quantiles out. One module per family."""
