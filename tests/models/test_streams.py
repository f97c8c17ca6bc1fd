"""Models of tokens: ids in, scores of every token out, at once or piece by piece."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, from_pretrained
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part

VOCABULARY = 11


def token_model(*entry: PartSpec, tied: bool = False, mixer: str = "identity", padding: int | None = None) -> Model:
    norm = part("layer_norm")
    block = BlockSpec((BranchSpec(part(mixer), norm=norm), BranchSpec(part("mlp"), norm=norm, layer_scale=0.5)))
    torch.manual_seed(0)
    return Model(
        ChainSpec(
            family="toy",
            name="toy",
            task="language-modelling",
            input=TokenInput(VOCABULARY, 8, padding),
            classes=VOCABULARY,
            embed=part("token_embedding"),
            stages=(StageSpec(16, (block, block), entry=entry),),
            head=part("token_scores", norm=norm, tied=tied),
        )
    )


IDS = torch.tensor([[1, 5, 2, 9, 10], [3, 3, 0, 4, 7]])


@pytest.mark.parametrize("tied", [False, True])
def test_scores_of_every_token(tied: bool, tmp_path: Path) -> None:
    model = token_model(part("learned_positions"), tied=tied)
    scores = model(IDS)
    assert scores.shape == (2, 5, VOCABULARY)
    assert ("head.linear.weight" in model.state_dict()) != tied
    model.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(IDS), scores)
    assert torch.equal(copy.deepcopy(model)(IDS), scores)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_copy_of_a_tied_model_has_a_weight_of_its_own() -> None:
    model = token_model(tied=True)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model.backbone.embed.weight.zero_()
    assert model(IDS).abs().max() == 0
    assert copied(IDS).abs().max() > 0


def test_piece_by_piece() -> None:
    model = token_model(part("learned_positions")).eval()
    with torch.inference_mode():
        expected = model(IDS)
        state = model.init_state(2, 8)
        first, state = model.stream(IDS[:, :2], state)
        rest = []
        for ids in IDS[:, 2:].split(1, dim=1):
            scores, state = model.stream(ids, state)
            rest.append(scores)
    assert state["length"].tolist() == [5, 5]
    torch.testing.assert_close(torch.cat([first, *rest], dim=1), expected)


def test_padding_is_no_token() -> None:
    model = token_model(padding=0).eval()
    with torch.inference_mode():
        _, state = model.stream(torch.tensor([[1, 2, 3], [4, 0, 0]]), model.init_state(2, 8))
    assert state["length"].tolist() == [3, 1]


def test_exported_with_the_tied_weight() -> None:
    model = token_model(tied=True).eval()
    program = torch.export.export(model, (IDS,))
    torch.testing.assert_close(program.module()(IDS), model(IDS))


def test_what_cannot_be_used_is_said() -> None:
    model = token_model(part("learned_positions"))
    with pytest.raises(UserError, match="at most 8 tokens"):
        model(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(UserError, match="at most 8 tokens"):
        model.init_state(1, 9)
    with pytest.raises(UserError, match="vocabulary has 11 tokens, and ids from 0 to 11"):
        model(torch.tensor([[0, 11]]))
    with pytest.raises(UserError, match="ids of shape"):
        model(torch.zeros(1, 4))
    with pytest.raises(UserError, match="without tokens"):
        model(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(UserError, match="cannot stream"):
        token_model(mixer="pooling").init_state(1, 8)
