"""torch.compile for the net, where the machine has what it needs."""

from __future__ import annotations

import torch
from torch import nn

from trainer.errors import ParamsError


def compile_net(net: nn.Module, device: str) -> None:
    """Let a module be compiled, in place, when it gets its first batch.

    Raises:
        ParamsError: The code for the CPU is C++, and there is no compiler for it.
    """
    if torch.device(device).type == "cpu":
        _check_compiler()
    net.compile()


def _check_compiler() -> None:
    """Look for the compiler where inductor will, so that it is not missed in the first step."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415 - takes seconds
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError) as error:
        finding = (
            "compile: torch.compile needs a C++ compiler on the CPU and finds none; install g++ or "
            "clang++ (or name one in the environment variable CXX), or set compile to false"
        )
        raise ParamsError("wrong params", [finding]) from error
