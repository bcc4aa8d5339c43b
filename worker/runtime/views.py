"""Pages on the worker's web server: `/metrics`, `/health/live` and `/health/ready`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from faust.web import Request, Response, View

from worker.runtime.metrics import Metrics

__all__ = ["Health", "Page", "health_views", "metrics_view"]

Page = Callable[[View, Request], Awaitable[Response]]


class Health(Protocol):
    """What the worker says of itself."""

    def is_live(self) -> bool:
        """Whether it can go on; a worker that cannot should be started again."""
        ...

    def is_ready(self) -> bool:
        """Whether it serves, or waits on purpose for a first model."""
        ...

    def details(self) -> Mapping[str, Any]:
        """What a person wants to know beside it."""
        ...


def metrics_view(metrics: Metrics) -> Page:
    """Return the page that Prometheus reads."""

    async def view(web: View, request: Request) -> Response:  # noqa: ARG001 - Faust's signature
        return web.bytes(metrics.text(), content_type="text/plain")

    return view


def health_views(health: Health) -> Mapping[str, Page]:
    """Return the pages for a supervisor: 200 when it is well, else 503, with details as JSON."""

    def page(is_well: Callable[[], bool]) -> Page:
        async def view(web: View, request: Request) -> Response:  # noqa: ARG001
            well = is_well()
            return web.json({"ok": well, **health.details()}, status=200 if well else 503)

        return view

    return {"/health/live": page(health.is_live), "/health/ready": page(health.is_ready)}
