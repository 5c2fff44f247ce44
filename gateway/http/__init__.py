"""Endpoints, problems, middleware, health and documents of the HTTP side."""
