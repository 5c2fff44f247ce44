"""Which series run next, and the worker processes that run them."""
