"""Migrations in order. A new one: the next number as `revision`, and as `HEAD` in `gateway/database.py`."""
