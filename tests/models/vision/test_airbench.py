"""The fast networks of CIFAR-10: their sizes, their authors' equations, and how they start from the data."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from formwright.candidates import CANDIDATES
from formwright.models import create_model, empty_copy, model_specification
from formwright.models.vision.airbench import whiten_stem
from formwright.search.images import ImageSpace, PictureShape
from formwright.training.recipe import build_optimizers


@pytest.mark.parametrize(
    ("variant", "dims", "depth"), [("airbench94", (64, 256, 256), 2), ("airbench96", (128, 384, 512), 3)]
)
def test_parameters_are_those_of_the_equations(variant, dims, depth):
    count, in_dim = 24 * (3 * 4 + 1), 24
    for dim in dims:
        count += 9 * in_dim * dim + (depth - 1) * 9 * dim**2 + depth * 2 * dim
        in_dim = dim
    assert empty_copy(model_specification(variant)).parameter_count() == count + 10 * in_dim


class Plain(nn.Module):
    """The same network, of PyTorch's modules."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2)
        self.layers = nn.ModuleList()
        in_dim = 24
        for dim in dims:
            for first in (True, False):
                conv = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
                pool, norm = nn.MaxPool2d(2) if first else nn.Identity(), nn.BatchNorm2d(dim, eps=1e-12, momentum=0.4)
                self.layers.append(nn.Sequential(conv, pool, norm))
                in_dim = dim
        self.head = nn.Linear(in_dim, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.stem(x))
        for layer in self.layers:
            x = F.gelu(layer(x))
        return self.head(F.max_pool2d(x, 3).flatten(1))


def test_it_is_the_network_of_plain_modules_in_scores_and_gradients():
    torch.manual_seed(0)
    ours, plain = create_model("airbench94", dims=(8, 16, 16)).double(), Plain((8, 16, 16)).double()
    for one, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        other.copy_(one.view_as(other))
    x, labels = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.arange(6)
    scores = [model.train()(x) for model in (ours, plain)]
    torch.testing.assert_close(*scores)
    for model_scores in scores:
        F.cross_entropy(model_scores, labels).backward()
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, msg=name)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(
    ("size", "channels", "grids"),
    [
        ((8, 8), 1, [7, 3]),
        ((28, 28), 1, [13, 6, 3]),
        ((32, 32), 3, [15, 7, 3]),
        ((64, 64), 3, [15, 7, 3]),
        ((224, 224), 3, [55, 27, 13, 6]),
    ],
)
def test_stages_follow_the_size_of_the_pictures(size, channels, grids):
    shape = PictureShape(size, channels, 5, 1000)
    model = empty_copy(ImageSpace(shape).propose("airbench", width=16, depth=1).specification)
    assert [grid[0] for grid in model.backbone.grids(size)] == grids


def take(most: int):
    torch.manual_seed(1)
    return torch.randn(min(most, 40), 3, 32, 32).cumsum(-1), None


def test_a_candidate_starts_from_the_patches_of_the_data():
    entry = CANDIDATES["image-classification"]["airbench"]
    assert entry.start is whiten_stem
    specification = ImageSpace(PictureShape((32, 32), 3, 10, 1000)).propose("airbench", width=8, depth=1).specification
    torch.manual_seed(0)
    model, again = create_model(specification), create_model(specification)
    before = model.backbone.embed.conv.weight.clone()
    for each in (model, again):
        entry.start(each, take, 0)
    kernels = model.backbone.embed.conv.weight
    assert not torch.equal(kernels, before)
    assert torch.equal(kernels, again.backbone.embed.conv.weight)
    white = F.conv2d(take(40)[0], kernels[:12]).movedim(1, -1).flatten(0, -2)
    second = white.T @ white / len(white)
    torch.testing.assert_close(second.diagonal()[:3], torch.ones(3), rtol=1e-2, atol=0)
    assert (second - torch.diag(second.diagonal())).abs().max() < 1e-2


def test_its_recipe_is_what_trains_it():
    proposal = ImageSpace(PictureShape((32, 32), 3, 10, 45_000)).propose("airbench", width=64, depth=1)
    recipe = proposal.recipe
    assert (recipe.momentum, recipe.normed_kernels, recipe.label_smoothing) == (0.6, True, 0.2)
    model = create_model(proposal.specification)
    muon, adam = build_optimizers(recipe, {"": model})
    rates = {}
    for group in (*muon.param_groups, *adam.param_groups):
        rates |= {id(parameter): group["lr"] for parameter in group["params"]}
    assert all((id(parameter) in rates) == parameter.requires_grad for parameter in model.parameters())
    assert rates[id(model.head.linear.weight)] == pytest.approx(0.05 * recipe.learning_rate)
    assert rates[id(model.backbone.embed.conv.bias)] == recipe.vector_learning_rate
