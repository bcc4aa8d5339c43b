"""Real trainings in real processes, under a real runner."""

from __future__ import annotations

import pytest

from tests.job_room import LONG, PARAMS, Room


async def test_a_checkpoint_is_evaluated_while_another_job_trains(room: Room) -> None:
    """An evaluation has its own place, and brings figures for the whole and for each class."""
    room.accept("a", PARAMS)
    async with room.runner():
        finished = await room.event("finished")
        room.accept("long", LONG)
        room.accept("e", {}, kind="evaluation", checkpoint=finished["checkpoint"])
        evaluated = await room.event("evaluated")

    assert evaluated["images"] == 100
    assert evaluated["metrics"]["accuracy"] == pytest.approx(finished["metrics"]["accuracy"])
    assert len(evaluated["per_class"]) == 10
