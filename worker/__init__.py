"""An image-classification worker for streams: `faust -A worker worker` runs it.

The app is built when it is first asked for, so that importing a part of this package
(`worker.streaming`, `worker.testing`) reads no settings and starts nothing.
"""

from typing import Any

import click

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from worker.app import create_app  # noqa: PLC0415 - the app is built on demand
        from worker.errors import SettingsError  # noqa: PLC0415
        from worker.settings import load_settings  # noqa: PLC0415

        try:
            globals()["app"] = app = create_app(load_settings())
        except SettingsError as error:  # the command line shows it without a traceback
            raise click.ClickException(str(error)) from error
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
