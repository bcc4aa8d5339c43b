"""Pages on the worker's web server: `/metrics`, `/health/live` and `/health/ready`."""

from collections.abc import Callable, Mapping

from faust.web import Request, Response, View
from prometheus_client import CollectorRegistry, generate_latest

from worker.part import Page
from worker.runtime.health import Health

__all__ = ["health_pages", "metrics_page"]


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the page that Prometheus reads."""

    async def view(web: View, request: Request) -> Response:  # noqa: ARG001 - Faust's signature
        return web.bytes(generate_latest(registry), content_type="text/plain")

    return view


def health_pages(health: Health) -> Mapping[str, Page]:
    """Return the pages for a supervisor: 200 when all is well, else 503, with details as JSON."""

    def page(is_well: Callable[[], bool]) -> Page:
        async def view(web: View, request: Request) -> Response:  # noqa: ARG001
            well = is_well()
            return web.json({"ok": well, **health.details()}, status=200 if well else 503)

        return view

    return {"/health/live": page(health.is_live), "/health/ready": page(health.is_ready)}
