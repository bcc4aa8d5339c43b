"""Unusable credentials are one clear message."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from worker.bridge.flow.errors import BridgeError
from worker.bridge.pubsub.client import PubSub, explain


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), ("{", "not a JSON file"), ("{}", "missing fields")],
)
def test_a_file_of_no_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, problem: str
) -> None:
    """A file that is missing, not JSON or not a service account's is named, with the remedy."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BridgeError) as raised:
        PubSub(path)
    message = str(raised.value)
    assert message.startswith(f"GOOGLE_APPLICATION_CREDENTIALS '{path}'")
    assert problem in message
    assert "set it to a service account's JSON file" in message


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials"),
        (grpc.StatusCode.PERMISSION_DENIED, "User not authorized"),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Getting metadata from plugin failed with error: ('invalid_grant: expired', {})",
        ),
    ],
)
def test_credentials_that_are_refused_are_told_from_an_outage(
    code: grpc.StatusCode, details: str
) -> None:
    """Credentials that are wrong, expired or without the right are named, as is a missing token."""
    call = SimpleNamespace(code=lambda: code, details=lambda: details)
    message = str(explain("projects/p/topics/t", call))
    assert "the credentials are wrong, expired or lack the right" in message
    assert details in message
