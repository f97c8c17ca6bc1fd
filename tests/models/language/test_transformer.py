"""Decoders and encoders from data: mixers by layer, and what cannot be."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model, model_specification
from formwright.models.language.transformer import layer_mixers
from formwright.nn import part


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
    assert embedding._type(ids, torch.zeros(2).long()).eq(embedding.types[0]).all(-1).tolist() == [
        [True, True, False, False, False],
        [True, False, False, False, False],
    ]
    whole, state, pieces = embedding(ids)[0], embedding.init_state(2, 5), []
    for piece in ids.split([2, 1, 2], dim=1):
        y, state = embedding.stream(piece, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole)
