"""docs/security.md lists exactly the settings and permissions that there are."""

from __future__ import annotations

import re

from tests.project import ROOT
from worker.kafka.permissions import worker_permissions
from worker.kafka.settings import KafkaSettings

TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_every_permission_is_listed() -> None:
    """The permissions of a worker are those that it checks at its start."""
    settings = KafkaSettings.model_validate({})
    expected = [str(one) for one in worker_permissions(settings.topics, settings.group)]
    table = TEXT.partition("| permission |")[2].partition("\n\n")[0]

    found = re.findall(r"^\| (\w+ on \w+ `images[\w-]*`)", table, re.MULTILINE)

    assert [line.replace("`", "'") for line in found] == expected
    assert "| Create on cluster |" in table


def test_every_setting_is_listed() -> None:
    """Each variable of the connection has a row, and each row a variable."""
    found = set(re.findall(r"^\| `(DARKROOM_KAFKA_\w+)` \|", TEXT, re.MULTILINE))

    assert found == {
        name for name in KafkaSettings.variables() if name.startswith("DARKROOM_KAFKA_")
    }
