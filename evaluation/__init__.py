"""Accuracy on real series. Not part of the wheel; the gateway and the adapters never import it."""
