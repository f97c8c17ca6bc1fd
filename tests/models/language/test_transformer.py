"""Decoders and encoders from data: mixers by layer, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.batch import call
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.models import create_model, from_pretrained, model_specification
from formwright.models.language.transformer import layer_mixers
from formwright.nn import part
from formwright.nn.context import EMPTY, Context


def names(**options: object) -> list[str]:
    blocks = model_specification("decoder_tiny", **options).stages[0].blocks
    return [block.branches[0].part.name for block in blocks]


def test_mixers_repeat_over_the_layers() -> None:
    assert (
        names(depth=8, mixers=("identity", "identity", "identity", "attention"))
        == [
            *["identity"] * 3,
            "attention",
        ]
        * 2
    )
    assert names(depth=2, mixers=part("attention", window=3)) == ["attention"] * 2


def test_mixers_get_the_options_that_they_have_and_do_not_set() -> None:
    first, second = layer_mixers(("attention", part("attention", heads=2)), 2, causal=True, heads=4, rotary=None)
    assert first.options == {"heads": 4, "causal": True, "rotary": None}
    assert second.options["heads"] == 2
    assert layer_mixers("identity", 1, causal=True, heads=4)[0] == part("identity")


@pytest.mark.parametrize("mixer", ["pooling", part("attention", causal=False), "spatial_linear"])
def test_a_mixer_that_cannot_be_causal_is_refused(mixer: object) -> None:
    with pytest.raises(UserError, match="looks at later tokens"):
        model_specification("decoder_tiny", mixers=mixer)


def test_no_mixer_is_refused() -> None:
    with pytest.raises(UserError, match="needs a mixer"):
        model_specification("decoder_tiny", mixers=())


def test_a_decoder_sees_no_future_and_an_encoder_does() -> None:
    torch.manual_seed(0)
    options = {"vocabulary": 11, "dim": 16, "depth": 2, "heads": 2}
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 9, 5]])
    decoder = create_model("decoder_tiny", **options).eval()
    assert torch.equal(decoder(ids)[:, :3], decoder(changed)[:, :3])
    assert not torch.equal(decoder(ids)[:, 3:], decoder(changed)[:, 3:])
    encoder = create_model("encoder_tiny", **options).eval()
    assert encoder(ids).shape == (1, 2)
    assert not torch.equal(encoder(ids), encoder(changed))


def test_a_decoder_classifies_by_the_last_real_token() -> None:
    torch.manual_seed(0)
    model = create_model("decoder_tiny", vocabulary=11, dim=16, depth=1, heads=2, classes=3, padding=10).eval()
    padded = torch.tensor([[1, 2, 3, 10, 10]])
    torch.testing.assert_close(model(padded), model(padded[:, :3]))


def test_a_text_longer_than_learned_positions_is_refused() -> None:
    model = create_model("gpt2", vocabulary=11, dim=16, depth=1, heads=2, length=4)
    with pytest.raises(UserError, match="at most 4 tokens, and 5 came"):
        model(torch.zeros(1, 5, dtype=torch.int64))


def test_types_follow_separators_at_once_and_in_a_stream() -> None:
    embedding = create_model("bert_tiny", vocabulary=11, dim=8, depth=1, heads=2, separator=7).backbone.embed
    ids = torch.tensor([[1, 7, 2, 7, 3], [7, 7, 7, 1, 2]])
    assert embedding._type(ids, torch.zeros(2).long(), EMPTY).eq(embedding.types[0]).all(-1).tolist() == [
        [True, True, False, False, False],
        [True, False, False, False, False],
    ]
    whole, state, pieces = embedding(ids)[0], embedding.init_state(2, 5), []
    for piece in ids.split([2, 1, 2], dim=1):
        y, state = embedding.stream(piece, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_types_may_be_given_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("bert_tiny", vocabulary=11, dim=8, depth=1, heads=2, separator=7, length=12).eval()
    ids = torch.tensor([[1, 7, 2, 7, 3], [7, 7, 7, 1, 2]])
    derived = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    torch.testing.assert_close(model(ids, types=derived), model(ids))
    given = {"input": ids, "types": 1 - derived}
    assert not torch.allclose(call(model, given), model(ids))
    assert {name: x.shape for name, x in model.example(2, optional=True).items()} == dict.fromkeys(given, (2, 12))
    assert isinstance(model.example(2), torch.Tensor), "who gives none gets those that follow from the ids"
    export_onnx(model, tmp_path / "model.onnx", given, free=("time",))
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    assert run.input_shapes == {"input": (None, None), "types": (None, None)}
    expected = call(model, given).detach().numpy()
    np.testing.assert_allclose(run.on_tensors(given), expected, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(call(from_pretrained(tmp_path), given), call(model, given))


def test_given_types_reach_a_stream_of_ids() -> None:
    embedding = create_model("bert_tiny", vocabulary=11, dim=8, depth=1, heads=2, separator=7).backbone.embed
    ids, types = torch.tensor([[1, 7, 2, 7, 3]]), torch.tensor([[1, 0, 0, 1, 1]])
    whole, context = embedding(ids, Context(types=types))
    assert context.types is None, "nobody behind the embedding takes them"
    state, pieces = embedding.init_state(1, 5), []
    for piece, kinds in zip(ids.split([2, 3], dim=1), types.split([2, 3], dim=1), strict=True):
        y, state = embedding.stream(piece, state, Context(types=kinds))
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_types_that_do_not_fit_are_refused() -> None:
    model = create_model("bert_tiny", vocabulary=11, dim=8, depth=1, heads=2)
    ids = torch.tensor([[1, 7, 2]])
    with pytest.raises(UserError, match="There are 2 types of tokens, and numbers from 0 to 2 came"):
        model(ids, types=torch.tensor([[0, 1, 2]]))
    with pytest.raises(UserError, match=r"Ids of shape \(1, 3\) have types of the same shape"):
        model(ids, types=torch.tensor([0, 1, 1]))
    with pytest.raises(UserError, match="No part of Chain uses types"):
        create_model("gpt2", vocabulary=11, dim=8, depth=1, heads=2)(ids, types=torch.tensor([[0, 1, 1]]))
