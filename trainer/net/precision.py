"""The number format of the forward pass: bfloat16 where the hardware has it, else float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from trainer.net.fast_convolution import fast_convolutions
from trainer.net.fast_elu import fast_elu

__all__ = ["autocast_forward", "has_bfloat16", "resolve_precision"]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes bfloat16 in hardware."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision that "auto" means on a device; other precisions are returned as is."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(device) else "float32"


@contextmanager
def autocast_forward(net: nn.Module, precision: str, device: str) -> Iterator[None]:
    """Let the forward pass of a module run in a precision, while the context lasts.

    Only the forward pass is in autocast: the loss and the user's own arithmetic stay in float32.
    The module stays the same object.
    """
    dtype = DTYPES.get(resolve_precision(precision, device))
    with ExitStack() as stack:
        stack.enter_context(fast_elu(net))
        if dtype is None:
            yield
            return
        if dtype is torch.bfloat16 and has_bfloat16(device):
            stack.enter_context(fast_convolutions(net))
        net.forward = torch.autocast(torch.device(device).type, dtype)(net.forward)
        try:
            yield
        finally:
            del net.forward
