"""What the health pages tell."""

from worker.runtime.health import Health
from worker.runtime.watchdog import Watchdog


def test_a_worker_is_ready_when_no_part_says_why_not() -> None:
    """The reason of a part that is not ready is among the problems."""
    reasons: list[str | None] = ["no model yet"]
    health = Health(Watchdog({}), [lambda: reasons[0]], {"partitions": lambda: [0, 1]})
    before = health.is_ready(), health.details()
    reasons[0] = None

    assert before == (False, {"problems": ["no model yet"], "partitions": [0, 1]})
    assert (health.is_ready(), health.details()["problems"]) == (True, [])
    assert health.is_live()
