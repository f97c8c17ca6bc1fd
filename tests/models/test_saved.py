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
from formwright.models.series.foundation import FoundationModel
from formwright.models.series.tempo import Tempo
from formwright.models.topologies.pair import Pair

FOLDERS = sorted((Path(__file__).parent / "saved").iterdir())
KINDS = {
    "tempo": "tempo",
    "foundation": "series_foundation",
    "foundation-decoder": "series_foundation",
    "pairs": "pair",
    "time-steps": "forecaster",
}


def answer(model: Network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    if isinstance(model, FoundationModel):
        return model.forecast(torch.randn(2, 96, generator=generator), 8)
    if isinstance(model, Tempo):
        return model(torch.randn(2, 32, 2, generator=generator))
    source = next(iter(model.inputs.values()))
    x = source.example(2)
    if x.is_floating_point():
        return model(torch.randn(x.shape, generator=generator))
    if isinstance(model, Pair):  # both texts were one row of the old one's input
        rows = torch.randint(1, source.vocabulary, (2, 2 * x.shape[1]), generator=generator)  # type: ignore[union-attr]
        return model(*rows.chunk(2, dim=1))
    return model(torch.randint(1, source.vocabulary, x.shape, generator=generator))  # type: ignore[union-attr]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_saved_model_gives_what_it_gave(folder: Path, tmp_path: Path) -> None:
    model = from_pretrained(folder)
    expected = torch.tensor(json.loads((folder / "expected.json").read_text())["outputs"])
    with torch.inference_mode():
        outputs = answer(model).flatten()[:16]
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
    assert model.config()["specification"]["kind"] == KINDS.get(folder.name, "chain")
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(answer(from_pretrained(tmp_path)).flatten()[:16], outputs)
