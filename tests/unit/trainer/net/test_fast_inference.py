"""A classifier that is rewritten for inference computes the same, and without what costs most."""

import pytest
import torch
from torch import nn

from trainer import build_classifier
from trainer.net import fast_inference
from trainer.net.fast_inference import FastClassifier, for_inference, in_bfloat16
from trainer.params.defaults import DEFAULT_PARAMS


def trained(module: nn.Module) -> nn.Module:
    """Give BatchNorm layers statistics other than their first ones."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, -2, 2)
            nn.init.uniform_(layer.bias, -1, 1)
    return module.eval()


NETS = {
    "published": [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ELU(), nn.MaxPool2d(2, 1)],
    "pooled first": [nn.Conv2d(3, 8, 3), nn.MaxPool2d(2, 1), nn.BatchNorm2d(8), nn.ReLU()],
    "pooled twice": [nn.Conv2d(3, 8, 3), nn.ELU(), nn.MaxPool2d(2, 1), nn.MaxPool2d(2)],
    "a softer ELU": [nn.Conv2d(3, 8, 3), nn.ELU(0.5), nn.MaxPool2d(3, 2, padding=1)],
    "an ELU that falls": [nn.Conv2d(3, 8, 3), nn.ELU(-1.0), nn.MaxPool2d(2, 1)],
    "an activation that falls": [nn.Conv2d(3, 8, 3), nn.GELU(), nn.MaxPool2d(2, 1)],
    "BatchNorm of the batch": [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)],
    "BatchNorm alone": [nn.BatchNorm2d(3), nn.ELU(), nn.Conv2d(3, 8, 3)],
}


@pytest.mark.parametrize("layers", NETS.values(), ids=NETS)
def test_the_same_is_computed(layers: list[nn.Module]) -> None:
    """Whatever the layers are, the result is the same within rounding."""
    net = trained(nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Softmax(dim=1)))
    x = torch.randn(5, 3, 12, 11)
    with torch.inference_mode():
        torch.testing.assert_close(for_inference(net)(x), net(x), rtol=1e-4, atol=1e-6)


def test_the_published_net_is_left_without_what_costs_most() -> None:
    """No BatchNorm, no ELU of PyTorch's own, no pooling with indices."""
    classifier = build_classifier(DEFAULT_PARAMS)
    kinds = {type(layer) for layer in for_inference(classifier).modules()}
    assert not kinds & {nn.BatchNorm2d, nn.ELU, nn.MaxPool2d}


def test_the_classifier_itself_stays_as_it_is() -> None:
    """Rewriting works on a copy."""
    classifier = build_classifier(DEFAULT_PARAMS)
    before = str(classifier)
    for_inference(classifier)
    assert str(classifier) == before


def test_in_bfloat16_the_scores_stay_float32() -> None:
    """Convolutions compute in bfloat16, the last fully connected layer in float32."""
    half = in_bfloat16(for_inference(build_classifier(DEFAULT_PARAMS)))
    convolutions = [layer for layer in half.modules() if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in half.modules() if isinstance(layer, nn.Linear)]
    assert {layer.weight.dtype for layer in convolutions} == {torch.bfloat16}
    assert [layer.weight.dtype for layer in linears] == [torch.float32]
    with torch.inference_mode():
        assert half(torch.randn(2, 1, 28, 28).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("has_bfloat16", [True, False])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_fast_classifier_gives_the_labels_of_the_classifier(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, batch_size: int
) -> None:
    """Probabilities are within 0.02, on processors that multiply in bfloat16 and on others."""
    monkeypatch.setattr(fast_inference, "has_bfloat16", lambda _device: has_bfloat16)
    classifier = trained(build_classifier(DEFAULT_PARAMS))
    x = torch.rand(batch_size, 1, 28, 28)

    with torch.inference_mode():
        expected, actual = classifier(x), FastClassifier(classifier)(x)

    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.02)
    assert torch.equal(actual.argmax(1), expected.argmax(1))
