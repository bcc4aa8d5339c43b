"""Random states of Python, numpy and torch: how to seed, save and restore them together."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = [
    "AUGMENT",
    "HELD_OUT",
    "ORDER",
    "deterministic_algorithms",
    "generator",
    "random_states",
    "restore_random_states",
    "set_seeds",
]

# Streams of random numbers that must not coincide.
ORDER, AUGMENT, HELD_OUT = 1, 2, 3


def set_seeds(seed: int) -> None:
    """Seed numpy, torch (every device) and Python with the same number."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Return every global random state as tensors and plain values, which `weights_only` loads."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore what `random_states` returned."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    keys = keys.numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def deterministic_algorithms(*, on: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only, while the context lasts.

    Operations that have none raise an error. On a GPU, cuBLAS reads the environment variable at its
    first use (https://docs.nvidia.com/cuda/cublas/#results-reproducibility).
    """
    before = torch.are_deterministic_algorithms_enabled()
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def generator(*numbers: int) -> torch.Generator:
    """Return a generator whose draws depend on these numbers alone (seed, epoch, batch, ...).

    Such draws can be repeated after a resume without a saved state.
    """
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
