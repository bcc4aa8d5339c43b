"""The broker of this tier: the embedded one, inside the worker or the test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def kafka_host() -> str:
    """The value of KAFKA_HOST."""
    return "embedded"
