"""Every choice of the spaces of texts and language can be built, and wider is larger."""

from __future__ import annotations

import pytest
import torch

from formwright.models import Model
from formwright.nn.embeddings import TokenEmbedding
from formwright.search.space import space_for
from formwright.shapes import LanguageShape, TextShape
from formwright.training.muon import Muon
from formwright.training.recipe import build_optimizers

TEXTS = space_for("text-classification", TextShape(vocabulary=300, length=24, padding=0, classes=3, texts=900))
LANGUAGE = space_for("language-modelling", LanguageShape(vocabulary=258, length=32, tokens=40_000))


def families():
    for space in (TEXTS, LANGUAGE):
        for family in space.families:
            yield pytest.param(space, family, id=family)


@pytest.mark.parametrize(("space", "family"), families())
def test_the_ends_of_the_choices_can_be_built(space, family):
    counts = []
    choices, scale = space.choices(family), space.families[family].scale
    sizes = choices[scale].values
    ends = [{scale: sizes[0]}, {scale: sizes[1]}, {scale: sizes[-1]}]
    if "depth" in choices:
        for end, depth in zip(ends, (choices["depth"].values[0], choices["depth"].values[-1], 2), strict=True):
            end["depth"] = depth
    for end in ends:
        proposal = space.propose(family, **end)
        with torch.device("meta"):
            model = Model(proposal.specification).eval()
            scores = model(torch.ones(2, space.shape.length, dtype=torch.int64))
        assert scores.shape[-1] == proposal.specification.classes
        counts.append(model.parameter_count())
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(("space", "family"), families())
def test_tables_of_ids_are_not_made_orthogonal(space, family):
    proposal = space.propose(family, **space.ladder(family)[1])
    model = Model(proposal.specification)
    tables = {
        id(parameter) for part in model.modules() if isinstance(part, TokenEmbedding) for parameter in part.parameters()
    }
    assert tables
    for optimizer in build_optimizers(proposal.recipe, {"": model}):
        if isinstance(optimizer, Muon):
            assert not tables & {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("texts", [12, 300, 5000, 100_000])
def test_the_recipe_suits_the_number_of_texts(texts):
    space = space_for("text-classification", TextShape(vocabulary=300, length=24, padding=0, classes=3, texts=texts))
    recipe = space.propose("encoder", width=32, depth=1).recipe
    assert recipe.batch_size <= max(16, texts // 7)
    assert 10 <= recipe.warmup <= 100


@pytest.mark.parametrize("tokens", [3000, 100_000, 10_000_000])
def test_steps_see_windows_and_short_texts_get_many(tokens):
    shape = LanguageShape(vocabulary=258, length=32, tokens=tokens)
    assert shape.batch * shape.length <= 4096 or shape.batch == 4
    assert shape.batch >= 4
