"""The bridge as a part of the worker."""

from worker.base import Base
from worker.bridge.settings import BridgeSettings
from worker.part import Part

__all__ = ["bridge_part"]


def bridge_part(settings: BridgeSettings, base: Base, new_topics: tuple[int, int]) -> Part:
    """Return the bridge's part, an empty one where there is nothing to mirror.

    Args:
        settings: What to mirror.
        base: What the parts share.
        new_topics: Partitions and replication factor of Kafka topics that a route may create.
    """
    routes = settings.routes_of(base.topics)
    if not routes:
        return Part()
    # Google's client takes a second to import
    from worker.bridge.metrics import bridge_collectors  # noqa: PLC0415
    from worker.bridge.service import Bridge  # noqa: PLC0415

    partitions, replication = new_topics
    bridge = Bridge(
        routes,
        broker=base.broker,
        dead_letters_topic=base.topics.dead_letters,
        project=settings.project,
        credentials_file=settings.credentials_file,
        timeout_s=settings.timeout_s,
        group=f"{base.group}-bridge",
        partitions=partitions,
        replication=replication,
    )
    return Part(
        services=[bridge],
        start_checks=[bridge.prepare],
        collectors=list(bridge_collectors(lambda: bridge.stats)),
    )
