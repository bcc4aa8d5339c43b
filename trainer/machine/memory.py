"""The memory of this process: how much it takes on a device, what is left, and what is kept."""

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

STATUS = Path("/proc/self/status")
FORGET_PEAK = "5"  # proc(5): resets VmHWM to the current size

# malloc.h of glibc: how much may be free at the top, and what is too large for the heap.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER_BYTES = 2**31 - 1


class MemoryGauge(Protocol):
    """Bytes on one device."""

    def restart(self) -> None:
        """Give back what is free, and measure the peak from now on."""

    def used(self) -> int:
        """Return what the process takes now."""

    def peak(self) -> int:
        """Return the most that it took since the last restart."""

    def available(self) -> int:
        """Return how much more it may take."""


def memory_of(device: str) -> MemoryGauge:
    """Return the memory of a device of torch."""
    if torch.device(device).type == "cuda":
        return GpuMemory(device)
    return HostMemory()


class HostMemory:
    """The main memory: resident pages, and what machine and cgroup have left."""

    def restart(self) -> None:
        """Give back what is free, and measure the peak from now on."""
        gc.collect()
        with suppress(OSError, AttributeError):
            # What the C library keeps for later would hide how much the next batch takes.
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):  # elsewhere the peak only grows, as batches do
            Path("/proc/self/clear_refs").write_text(FORGET_PEAK, encoding="ascii")

    def used(self) -> int:
        """Return what the process takes now."""
        return _status("VmRSS") or self.peak()

    def peak(self) -> int:
        """Return the most that it took since the last restart."""
        unit = 1 if sys.platform == "darwin" else 1024
        return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def available(self) -> int:
        """Return how much more it may take, by the machine and by every cgroup that it is in.

        Raises:
            TrainerError: The system does not tell.
        """
        try:
            machine = _field(Path("/proc/meminfo"), "MemAvailable")
        except OSError:
            machine = None
        if machine is None:
            raise TrainerError("this system does not tell how much memory is free; set a budget")
        return min([machine, *cgroups_left()])


class GpuMemory:
    """The memory of a GPU: what torch's allocator has taken, and what is free."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def restart(self) -> None:
        """Give back what is free, and measure the peak from now on."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def used(self) -> int:
        """Return what the process takes now."""
        return torch.cuda.memory_reserved(self._device)

    def peak(self) -> int:
        """Return the most that it took since the last restart."""
        return torch.cuda.max_memory_reserved(self._device)

    def available(self) -> int:
        """Return how much more it may take."""
        return int(torch.cuda.mem_get_info(self._device)[0])


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, where there is glibc.

    Each step allocates and frees the same tensors. Given back to the system each time, they come
    back page by page, which takes an eighth of a step of the published net.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER_BYTES)
        mallopt(M_MMAP_THRESHOLD, NEVER_BYTES)


def cgroups_left(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield what each cgroup of this process has left under its limit, where it has one.

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
