"""An HTML page that opens in any browser, without a server, scripts or a network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; }
table { border-collapse: collapse; } td, th { padding: 2px 8px; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead { border-bottom: 1px solid #999; }
svg { font-size: 11px; } svg .title { font-size: 14px; } svg .grid { stroke: #ddd; }
polyline { fill: none; stroke-width: 1.5; }
pre { margin: 0; white-space: pre-wrap; text-align: left; max-width: 700px; }
figure { display: inline-block; margin: 6px; font-size: 12px; max-width: 140px; }
figure img { width: 112px; image-rendering: pixelated; } figcaption { overflow-wrap: anywhere; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a page with a heading, in the style of tables and charts.

    Args:
        title: As text.
        body: Elements, as HTML.
    """
    heading = escape(title)
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>',
        f"<style>{STYLE}</style></head><body><h1>{heading}</h1>",
        *body,
        "</body></html>",
    ]
    return "\n".join(lines)
