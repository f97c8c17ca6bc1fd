"""Two texts in a row are read by one encoder, each as if it were alone."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model
from formwright.nn import build_part, part
from formwright.nn.context import EMPTY
from tests.conformance.instances import randomise

SMALL = {"dim": 16, "depth": 1, "heads": 2, "hidden": 8, "vocabulary": 11, "length": 12}


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    found = create_model("lra_retrieval", **SMALL).double().eval()
    randomise(found, 0)
    return found


def test_each_text_is_read_as_if_it_were_alone() -> None:
    pairs = model()
    ids = torch.randint(1, 11, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[1, 4:6] = 0
    tokens, _ = pairs.backbone(ids, pairs._context(ids, EMPTY))
    assert tokens.shape == (6, 7, 16)  # a class token in front of each
    swapped = torch.cat([ids[:, 6:], ids[:, :6]], dim=1)
    other, _ = pairs.backbone(swapped, pairs._context(swapped, EMPTY))
    torch.testing.assert_close(tokens.roll(3, 0), other)


def test_padding_of_either_text_changes_nothing() -> None:
    pairs = model()
    ids = torch.randint(1, 11, (2, 12), generator=torch.Generator().manual_seed(0))
    ids[:, 10:] = 0
    embedded = pairs.backbone.embed.weight.clone()
    before = pairs(ids)
    with torch.no_grad():
        pairs.backbone.embed.weight[0] = embedded[0] + 3
    torch.testing.assert_close(pairs(ids), before)


def test_a_pair_gets_the_scores_of_its_own_texts() -> None:
    pairs = model()
    ids = torch.randint(1, 11, (3, 12), generator=torch.Generator().manual_seed(0))
    scores = pairs(ids)
    assert scores.shape == (3, 2)
    for row in range(3):
        torch.testing.assert_close(pairs(ids[row : row + 1]), scores[row : row + 1])
    assert not torch.allclose(pairs(torch.cat([ids[:, 6:], ids[:, :6]], dim=1)), scores), "a - b has a sign"


def test_an_odd_number_of_ids_is_no_pair() -> None:
    with pytest.raises(UserError, match="and 11 ids came; pad one"):
        model()(torch.ones(1, 11, dtype=torch.int64))


def test_gradients_reach_every_parameter() -> None:
    pairs = model()
    pairs(torch.randint(1, 11, (3, 12))).square().sum().backward()
    assert all(p.grad is not None for p in pairs.parameters() if p.requires_grad)


def test_hidden_classifier_is_its_formula() -> None:
    head = build_part(part("hidden_classifier", hidden=8), 16, 5)
    x = torch.randn(2, 7, 16)
    expected = head.fc2(torch.relu(head.fc1(x.mean(1))))
    torch.testing.assert_close(head(x), expected)
