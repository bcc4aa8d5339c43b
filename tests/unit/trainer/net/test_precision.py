"""The number format of the forward pass."""

import pytest
import torch

from trainer.net.precision import resolve_precision


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 if the processor has it, else float32; other precisions are never changed."""
    for has, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert expected == resolve_precision("auto", "cpu")
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
