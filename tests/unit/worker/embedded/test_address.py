"""Where the embedded broker of a log directory is announced."""

import json
import os
from pathlib import Path

from worker.embedded import kafka as embedded_kafka


def test_nothing_is_found_where_nothing_was_announced(tmp_path: Path) -> None:
    """A log directory without an announcement, or none at all, has no embedded broker."""
    assert embedded_kafka.find(tmp_path) is None
    assert embedded_kafka.find(tmp_path / "missing") is None


def test_an_announcement_names_the_address_and_the_process(tmp_path: Path) -> None:
    """broker.json says where the broker listens and which process it lives in."""
    embedded_kafka.announce(tmp_path / "logs", "127.0.0.1:1")
    content = json.loads((tmp_path / "logs" / "broker.json").read_text())
    assert {"bootstrap": "127.0.0.1:1", "pid": os.getpid()} == content


def test_a_spoilt_announcement_counts_as_none(tmp_path: Path) -> None:
    """What is not the JSON that a worker writes is not taken for an address."""
    for content in (b"", b"{}", b"[]", b"nonsense", b'{"bootstrap": "a:1", "pid": "x"}'):
        (tmp_path / "broker.json").write_bytes(content)
        assert embedded_kafka.find(tmp_path) is None, content


def test_withdrawing_leaves_another_process_s_announcement(tmp_path: Path) -> None:
    """A worker removes its own broker's address and never that of a broker which took over."""
    address = tmp_path / "broker.json"
    embedded_kafka.announce(tmp_path, "127.0.0.1:1")
    embedded_kafka.withdraw(tmp_path)
    assert not address.exists()
    address.write_text(json.dumps({"bootstrap": "127.0.0.1:1", "pid": os.getpid() + 1}))
    embedded_kafka.withdraw(tmp_path)
    assert address.exists()
