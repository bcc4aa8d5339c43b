"""The places where a message has been, so that no bridge sends it back to one of them."""

__all__ = ["HOPS", "add_hop", "as_text", "hops_of"]

HOPS = "darkroom.hops"
MAX_BYTES = 1024  # Pub/Sub's limit for the value of an attribute


def hops_of(value: str | bytes | None) -> list[str]:
    """Return the places where a message has been."""
    return [hop for hop in as_text(value).split(",") if hop]


def add_hop(hops: str, place: str) -> str:
    """Add a place to a list of hops; beyond 1,024 bytes the oldest hops are dropped."""
    if not hops:
        return place
    listed = [*hops_of(hops), place]
    while len(",".join(listed)) > MAX_BYTES:
        listed.pop(0)
    return ",".join(listed)


def as_text(value: str | bytes | None) -> str:
    """Return a header or attribute as text, empty when there is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
