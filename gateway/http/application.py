"""The application: Starlette's, on the shortest way to an endpoint."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send


class Application(Starlette):
    """Starlette without the layers that have nothing to do here.

    It wraps every application in two layers for exceptions. Here an endpoint's resource answers those of the endpoint,
    and `ExchangeMiddleware` all others. And it tries one route after the other; the busy paths have no parameters, and
    are looked up.
    """

    def build_middleware_stack(self) -> ASGIApp:
        exact = {r.path: r.app for r in self.routes if isinstance(r, Route) and not r.param_convertors}

        def routed(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            path = scope.get("path", "")
            if path == "*":  # of OPTIONS: the server as a whole, which no route stands for
                scope = {**scope, "path": "/*"}
            return exact.get(path, self.router)(scope, receive, send)

        app: ASGIApp = routed
        for layer, args, kwargs in reversed(self.user_middleware):
            app = layer(app, *args, **kwargs)
        return app
