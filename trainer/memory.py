"""The memory of the process: what a step frees is kept for the next one."""

from __future__ import annotations

import ctypes

# malloc.h of glibc: how much may be free at the top, and what is too large for the heap.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER_BYTES = 2**31 - 1


def keep_freed() -> None:
    """Let glibc keep what is freed, where there is glibc.

    Each step allocates and frees the same tensors. Given back to the system each time, they come
    back page by page, which takes an eighth of a step of the published net.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER_BYTES)
        mallopt(M_MMAP_THRESHOLD, NEVER_BYTES)
