"""No image is lost, doubled without need, or out of order when workers die, stop, come and go.

The shorter form of `scripts/bench chaos`: on a real Kafka, counted by id in the topics afterwards.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.documents import Document
from worker.testing import LabelledImages, LocalDeployment, Verdict, ordeal, terminations, visits
from worker.testing.chaos.ordeal import IN_FLIGHT

PER_S = 100.0


class TestKills:
    """Kill -9."""

    def test_kills_lose_nothing(self, tmp_path: Path, trained_folder: Path) -> None:
        """Three times kill -9 of one of two workers, as the page of testing has it."""
        shutil.copytree(trained_folder, tmp_path, dirs_exist_ok=True)
        names: dict[str, Any] = {"folder": tmp_path}
        exec(Document("docs/testing.md").block("python", "ordeal"), names)

        verdict: Verdict = names["verdict"]
        assert verdict.exit_codes == [0, 0]
        assert verdict.account.duplicates <= 3 * IN_FLIGHT


class TestTerminations:
    """SIGTERM."""

    def test_sigterm_under_load_gives_no_duplicates(
        self, served: LocalDeployment, images: LabelledImages
    ) -> None:
        """Workers are stopped and started under load: all is answered, and nothing twice."""
        codes: list[int] = []
        faults = terminations(2, codes)
        verdict = ordeal(served, images.images, per_s=PER_S, n_workers=2, faults=faults)

        assert {*codes, *verdict.exit_codes} == {0}
        assert verdict.problems == []
        assert verdict.account.answered_twice() == []


class TestRebalances:
    """Partitions move between workers that live."""

    def test_rebalances_lose_nothing(self, served: LocalDeployment, images: LabelledImages) -> None:
        """A third worker comes and goes twice: all is answered, nothing twice."""
        verdict = ordeal(served, images.images, per_s=PER_S, n_workers=2, faults=visits(2))

        assert verdict.problems == []
        assert verdict.account.answered_twice() == []
        assert verdict.exit_codes == [0, 0]
