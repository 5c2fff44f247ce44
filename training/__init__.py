"""Training of the bundled forecaster. Not part of the wheel; the gateway and the adapters never import it."""
