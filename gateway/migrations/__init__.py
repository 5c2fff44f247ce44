"""The steps that bring a database to today's tables, one module each in `versions`."""
