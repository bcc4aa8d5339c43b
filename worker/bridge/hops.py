"""The places where a message has been, by which no bridge sends it back to one of them."""

__all__ = ["HOPS", "hops_of", "joined_hops", "text"]

HOPS = "darkroom.hops"
MAX_BYTES = 1024
"""Of an attribute's value in Pub/Sub."""


def hops_of(value: str | bytes | None) -> list[str]:
    """Return the places where a message has been."""
    return [hop for hop in text(value).split(",") if hop]


def joined_hops(hops: str, place: str) -> str:
    """Add a place to a list of hops, of which the oldest give way to the limit of 1,024 bytes."""
    if not hops:
        return place
    listed = [*hops_of(hops), place]
    while len(",".join(listed)) > MAX_BYTES:
        listed.pop(0)
    return ",".join(listed)


def text(value: str | bytes | None) -> str:
    """Return a header or attribute as text, empty where there is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
