"""The arena's encoders: sizes, mixers, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model, empty_copy, model_specification
from formwright.models.language.long_range_arena import ARENA_MIXERS
from formwright.nn import PARTS

SMALL = {"dim": 16, "depth": 2, "heads": 2, "hidden": 16, "vocabulary": 11, "length": 70, "classes": 3}
MIXERS = [name for name, mixer in ARENA_MIXERS.items() if mixer.name in PARTS]


@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        ("listops", 8_948_746),
        ("text", 3_486_722),
        ("retrieval", 1_218_818),
        ("image", 248_458),
        ("pathfinder", 26_530),
    ],
)
def test_sizes_are_those_of_the_authors_configurations(task: str, parameters: int) -> None:
    """The sine table is a frozen parameter here and a constant there."""
    assert empty_copy(model_specification(f"lra_{task}")).parameter_count(trainable=True) == parameters


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("class_token", [False, True])
def test_every_mixer_fits_the_skeleton_and_sees_no_padding(mixer: str, class_token: bool) -> None:
    torch.manual_seed(0)
    model = create_model("lra_text", **SMALL, mixer=mixer, class_token=class_token).eval()
    ids = torch.randint(1, 11, (2, 70))
    ids[1, 50:] = 0
    scores = model(ids)
    assert scores.shape == (2, 3)
    with torch.no_grad():
        model.backbone.embed.weight[0] += 3
    torch.testing.assert_close(model(ids), scores)


def test_unknown_mixers_are_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no mixer of the arena named 'longfomer'; did you mean longformer"):
        create_model("lra_text", mixer="longfomer")
