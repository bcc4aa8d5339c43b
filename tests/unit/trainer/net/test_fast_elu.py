"""The faster ELU."""

import pytest
import torch
from torch import Tensor, nn

from trainer.net.fast_elu import elu, fast_elu


@pytest.fixture
def with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def inputs(dtype: torch.dtype) -> Tensor:
    spread = torch.cat([torch.linspace(-90, 90, 2001), torch.randn(2000) * 1e-3])
    return spread.to(dtype).requires_grad_()


@pytest.mark.usefixtures("with_avx512")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_faster_elu_is_torchs(dtype: torch.dtype) -> None:
    """Values and gradients are torch's within rounding, in every precision."""
    layer, x, same = nn.ELU(), inputs(dtype), inputs(dtype)
    same.data.copy_(x.data)
    expected = layer(x)
    expected.sum().backward()

    with fast_elu(layer):
        actual = layer(same)
        actual.sum().backward()

    assert "Elu" in str(actual.grad_fn)
    close = {"rtol": 0.01 if dtype == torch.bfloat16 else 0.0, "atol": 2e-7}
    torch.testing.assert_close(actual, expected, **close)
    torch.testing.assert_close(same.grad, x.grad, **close)


def test_nan_and_infinity_are_kept() -> None:
    """NaN and infinities are those of torch's ELU."""
    x = torch.tensor([torch.nan, torch.inf, -torch.inf])

    torch.testing.assert_close(elu(x), nn.ELU()(x), equal_nan=True)


@pytest.mark.usefixtures("with_avx512")
def test_layers_are_as_they_were_afterwards() -> None:
    """The context leaves the net as it was; layers with another alpha are never changed."""
    net = nn.Sequential(nn.ELU(), nn.ELU(alpha=0.5))

    with fast_elu(net):
        changed = ["forward" in vars(layer) for layer in net]

    assert changed == [True, False]
    assert not any("forward" in vars(layer) for layer in net)
