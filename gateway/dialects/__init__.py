"""Wire formats: pure functions between bytes and the domain, one module each."""
