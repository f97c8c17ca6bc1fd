"""Small networks of the three kinds that matter to an exporter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from formwright.deployment.export import export_onnx


def conv_net() -> nn.Module:
    """Convolutions, batch norms with statistics of their own, a residual branch, pooling."""

    class Residual(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
            )

        def forward(self, x):
            return x + self.body(x)

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Residual(32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model


class Attention(nn.Module):
    """Patches, one pre-norm attention block, mean of the tokens, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 4, 4)
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, 4, dim // 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return self.head((x + self.mlp(x)).mean(1))


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return {"convolutions": conv_net, "attention": Attention}[kind]()


@pytest.fixture(params=["convolutions", "attention"])
def network(request) -> nn.Module:
    return build(request.param)


@pytest.fixture(scope="session")
def _exports(tmp_path_factory) -> Callable[[str], bytes]:
    """Exports take seconds, so each network is exported once."""

    @functools.cache
    def export(kind: str) -> bytes:
        path = tmp_path_factory.mktemp("exports") / f"{kind}.onnx"
        export_onnx(build(kind), path, torch.zeros(2, 3, 16, 16))
        return path.read_bytes()

    return export


@pytest.fixture
def exported(request, _exports, tmp_path) -> Path:
    """The ONNX file of the network of that name (the parameter of an indirect fixture; convolutions by default)."""
    path = tmp_path / "model.onnx"
    path.write_bytes(_exports(getattr(request, "param", "convolutions")))
    return path
