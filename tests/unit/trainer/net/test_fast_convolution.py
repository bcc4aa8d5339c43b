"""Convolutions with a faster weight gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.net.fast_convolution import SmallConvolution, fast_convolutions

LAYERS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"kernel_size": 3}, (4, 4)),
    ({"kernel_size": (3, 2), "bias": False}, (5, 4)),
    ({"kernel_size": 3, "stride": 2, "padding": 1}, (6, 5)),
    ({"kernel_size": 2, "dilation": (1, 2), "padding": (0, 1)}, (3, 3)),
]


def gradients(net: nn.Module, x: Tensor, *, autocast: bool = True) -> tuple[Tensor, list[Tensor]]:
    """Return the output of a step, and the gradients of input, weights and biases."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = net(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    found = [x.grad, *(parameter.grad for parameter in net.parameters())]
    return y, [one for one in found if one is not None]


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("kwargs", "size"), LAYERS)
def test_gradients_are_torchs(
    kwargs: dict[str, Any], size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    """The output is the same; the gradients are as close to float32's as torch's in bfloat16."""
    layer = nn.Conv2d(5, 7, **kwargs)
    x = torch.randn(6, 5, *size).contiguous(memory_format=memory_format)
    exact = gradients(layer, x, autocast=False)[1]
    expected, theirs = gradients(layer, x)

    with fast_convolutions(layer):
        actual, ours = gradients(layer, x)

    assert SmallConvolution.__name__ in str(actual.grad_fn)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    for mine, torchs, true in zip(ours, theirs, exact, strict=True):
        off = (torchs - true).abs().max()
        torch.testing.assert_close(mine, true, rtol=0.01, atol=2 * float(off) + 1e-6)


def test_a_layer_that_is_used_twice_learns_from_both() -> None:
    """Once with a small output and once with a large one: neither gradient is lost."""
    layer = nn.Conv2d(1, 2, 3)
    small, large = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 9, 9)

    def both(x: Tensor) -> Tensor:
        return torch.cat([layer(x).flatten(), layer(large).flatten()])

    both_ways = []
    for quick in (True, False):
        layer.zero_grad()
        with fast_convolutions(layer if quick else nn.Identity()):
            with torch.autocast("cpu", torch.bfloat16):
                y = both(small)
            torch.autograd.backward(y.float().sum())
        assert layer.weight.grad is not None
        both_ways.append(layer.weight.grad.clone())
    torch.testing.assert_close(both_ways[0], both_ways[1], rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(4, 4, 3), 6),
        (nn.Conv2d(4, 4, 3, groups=2), 4),
        (nn.Conv2d(4, 4, 3, padding="same"), 3),
        (nn.Conv2d(4, 4, 3, padding_mode="circular", padding=1), 3),
        (nn.Conv2d(4, 4, 3).requires_grad_(requires_grad=False), 4),
    ],
)
def test_other_layers_are_left_to_torch(layer: nn.Conv2d, size: int) -> None:
    """Large outputs, groups, other paddings and frozen weights are left to torch."""
    x = torch.randn(2, 4, size, size, requires_grad=True)
    with fast_convolutions(layer), torch.autocast("cpu", torch.bfloat16):
        assert SmallConvolution.__name__ not in str(layer(x).grad_fn)


def test_float32_is_left_to_torch() -> None:
    """Without autocast nothing is gained, so nothing changes."""
    layer = nn.Conv2d(4, 4, 3)
    with fast_convolutions(layer):
        assert SmallConvolution.__name__ not in str(layer(torch.randn(2, 4, 4, 4)).grad_fn)
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)
