"""HTML pages that open in any browser, without a server, scripts or a network."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["page"]


def page(template: str, title: str, **values: object) -> str:
    """Return a page.

    Args:
        template: A file in `templates/`, which extends `page.html`.
        title: Heading of the page, as text.
        **values: What the template shows; texts are escaped.

    Raises:
        jinja2.UndefinedError: The template shows a value that is not given.
    """
    return _environment().get_template(template).render(title=title, **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainer.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
