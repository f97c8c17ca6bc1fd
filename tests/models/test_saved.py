"""Models that were saved by earlier versions load and give what they gave then.

Each folder of ``saved`` was written by the version that is named in its ``config.json``; its inputs are normal values,
or whole numbers, of a seeded generator.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from formwright.models import Network, from_pretrained

FOLDERS = sorted((Path(__file__).parent / "saved").iterdir())
CHAINS = [folder for folder in FOLDERS if "specification" in json.loads((folder / "config.json").read_text())]


def example(model: Network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    (source,) = model.inputs.values()
    x = source.example(2)
    if x.is_floating_point():
        return torch.randn(x.shape, generator=generator)
    return torch.randint(1, source.vocabulary, x.shape, generator=generator)  # type: ignore[union-attr]


@pytest.mark.parametrize("folder", CHAINS, ids=lambda folder: folder.name)
def test_a_saved_chain_gives_what_it_gave(folder: Path) -> None:
    model = from_pretrained(folder)
    expected = torch.tensor(json.loads((folder / "expected.json").read_text())["outputs"])
    with torch.inference_mode():
        outputs = model(example(model)).flatten()[:16]
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
    assert model.config()["specification"]["kind"] == "chain"
