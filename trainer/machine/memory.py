"""The memory of this process: how much it uses, how much is left, and what glibc keeps."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch

from trainer.errors import TrainerError

__all__ = [
    "GpuMemory",
    "HostMemory",
    "MemoryGauge",
    "cgroups_left",
    "keep_freed_memory",
    "memory_of",
]

STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # proc(5): resets VmHWM to the current size

# Options of mallopt in glibc's malloc.h: from which size on free memory at the top of the heap is
# returned to the system, and blocks are allocated outside the heap.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1


class MemoryGauge(Protocol):
    """Measures the memory of this process on one device, in bytes."""

    def restart(self) -> None:
        """Free unused memory, and measure the peak from now on."""

    def used(self) -> int:
        """Return how much memory the process uses now."""

    def peak(self) -> int:
        """Return the most memory that it used since the last restart."""

    def available(self) -> int:
        """Return how much more memory it may use."""


def memory_of(device: str) -> MemoryGauge:
    """Return the gauge of a torch device."""
    if torch.device(device).type == "cuda":
        return GpuMemory(device)
    return HostMemory()


class HostMemory:
    """Main memory: resident pages, and what machine and cgroups have left."""

    def restart(self) -> None:
        """Free unused memory, and measure the peak from now on."""
        gc.collect()
        with suppress(OSError, AttributeError):
            # Memory that the C library keeps for later would hide how much the next batch uses.
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):  # without /proc the peak only grows, as batches do
            Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")

    def used(self) -> int:
        """Return how much memory the process uses now."""
        return _status("VmRSS") or self.peak()

    def peak(self) -> int:
        """Return the most memory that it used since the last restart."""
        unit = 1 if sys.platform == "darwin" else 1024
        return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def available(self) -> int:
        """Return how much more memory it may use: the least of what machine and cgroups have left.

        Raises:
            TrainerError: The system does not report it.
        """
        try:
            machine = _field(Path("/proc/meminfo"), "MemAvailable")
        except OSError:
            machine = None
        if machine is None:
            raise TrainerError("this system does not report how much memory is free; set a budget")
        return min([machine, *cgroups_left()])


class GpuMemory:
    """GPU memory: what torch's allocator has reserved, and what is free."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def restart(self) -> None:
        """Free unused memory, and measure the peak from now on."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def used(self) -> int:
        """Return how much memory the process uses now."""
        return torch.cuda.memory_reserved(self._device)

    def peak(self) -> int:
        """Return the most memory that it used since the last restart."""
        return torch.cuda.max_memory_reserved(self._device)

    def available(self) -> int:
        """Return how much more memory it may use."""
        return int(torch.cuda.mem_get_info(self._device)[0])


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system; elsewhere do nothing.

    Each training step allocates and frees the same tensors. Getting their memory back from the
    system, page by page, takes an eighth of a step of the published net.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER)
        mallopt(M_MMAP_THRESHOLD, NEVER)


def cgroups_left(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield how much memory each cgroup of this process has left, where it has a limit.

    Cached files that the kernel would drop count as free, as they do in MemAvailable.
    """
    for folder in _cgroups(proc, mount):
        two = (folder / "memory.max", folder / "memory.current", "inactive_file")
        one = (
            folder / "memory.limit_in_bytes",
            folder / "memory.usage_in_bytes",
            "total_inactive_file",
        )
        for limit, usage, cached in (two, one):
            with suppress(OSError, ValueError):  # without a limit it is "max"
                taken = int(usage.read_text()) - (_field(folder / "memory.stat", cached, 1) or 0)
                yield max(int(limit.read_text()) - max(taken, 0), 0)


def _cgroups(proc: Path, mount: Path) -> Iterator[Path]:
    """Yield the folders of the cgroups that limit this process's memory, of either version."""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = mount / "memory" if controllers else mount
            inner = PurePosixPath(path.lstrip("/"))
            yield from dict.fromkeys(root / part for part in (inner, *inner.parents))


def _status(name: str) -> int | None:
    try:
        return _field(STATUS, name)
    except OSError:
        return None


def _field(path: Path, name: str, unit: int = 1024) -> int | None:
    """Return a field of a file with lines such as `VmRSS:   1234 kB`, in bytes."""
    for line in path.read_text().splitlines():
        key, *values = line.split()
        if key.rstrip(":") == name:
            return int(values[0]) * unit
    return None
