"""Before the service is ready: only what probes and scrapes ask for is answered."""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem

_ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
_RETRY_SECONDS = 5


class Gate:
    """Lets requests pass once `is_open` is set; until then they are answered 503."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if self.is_open or scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        refusal = problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the store does not answer yet; try again shortly",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
        await refusal(scope, receive, send)
