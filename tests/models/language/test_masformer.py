"""MASFormer's layers see what they should, remember what they need, and give GPT-Neo's outputs with its weights."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model, empty_copy, load_checkpoint, model_specification
from formwright.models.language.masformer import full_layers
from tests.conformance.instances import randomise

SIZES = {"dim": 16, "depth": 4, "heads": 2, "vocabulary": 11, "length": 20}


def model(full: tuple[int, ...], window: int, **changes: int) -> Model:
    torch.manual_seed(0)
    found = create_model("masformer_125m", **{**SIZES, **changes}, full=full, window=window).double().eval()
    randomise(found, 0)
    return found


def ids(time: int = 20) -> torch.Tensor:
    return torch.randint(11, (2, time), generator=torch.Generator().manual_seed(1))


def test_all_layers_full_and_a_window_as_wide_as_the_text_are_the_plain_model() -> None:
    plain = model((0, 1, 2, 3), 3)
    torch.testing.assert_close(model((), 20)(ids()), plain(ids()), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(model((), 3)(ids()), plain(ids()))


@pytest.mark.parametrize(("full", "depth", "reach"), [((), 1, 2), ((), 3, 6), ((1,), 3, 19)])
def test_local_layers_reach_a_window_further_each(full: tuple[int, ...], depth: int, reach: int) -> None:
    """A window of 3 reaches 2 back; stacked layers add up, and a full one ends it."""
    found = model(full, 3, depth=depth)
    before = found(ids())
    for place in range(20):
        changed = ids()
        changed[:, place] = (changed[:, place] + 1) % 11
        differs = (found(changed) - before).abs().amax((0, 2)) > 0
        expected = torch.arange(20)
        assert torch.equal(differs, (expected >= place) & (expected <= place + reach))


def test_caches_are_as_long_as_what_is_seen() -> None:
    state = model((0,), 3).init_state(2, 20)
    slots = [tensor.shape[1] for name, tensor in state.items() if name.endswith("/keys")]
    assert sorted(slots) == [3, 3, 3, 20]


def test_writing_on_goes_beyond_the_window() -> None:
    found = model((2,), 3)
    state = found.init_state(2, 20)
    pieces = []
    with torch.inference_mode():
        for piece in ids().split([7, *[1] * 13], dim=1):
            scores, state = found.stream(piece, state)
            pieces.append(scores)
        torch.testing.assert_close(torch.cat(pieces, 1), found(ids()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("policy", "layers"), [("bottom", (0, 1, 2)), ("top", (9, 10, 11)), ("even", (3, 7, 11))])
def test_policies(policy: str, layers: tuple[int, ...]) -> None:
    assert full_layers(12, 3, policy) == layers
    assert full_layers(12, 0, policy) == ()
    assert full_layers(12, 12, policy) == tuple(range(12))


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="no layer 4: the 4 layers are numbered from 0 to 3"):
        model((4,), 3)
    with pytest.raises(UserError, match="window of 0 tokens sees nothing"):
        model((), 0)
    with pytest.raises(UserError, match="no policy of full layers named 'botom'; did you mean bottom"):
        full_layers(4, 2, "botom")
    with pytest.raises(UserError, match="5 of 4 layers"):
        full_layers(4, 5)


def test_no_parameter_is_added() -> None:
    counts = {
        empty_copy(model_specification("masformer_1_3b", full=full)).parameter_count()
        for full in ((), (0, 5), range(24))
    }
    assert len(counts) == 1


def test_gives_the_outputs_of_gpt_neo_with_its_weights() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPTNeoConfig(
        vocab_size=11,
        hidden_size=16,
        num_layers=4,
        num_heads=2,
        window_size=3,
        max_position_embeddings=20,
        attention_types=[[["global", "local", "local", "global"], 1]],
    )
    theirs = transformers.GPTNeoForCausalLM(config).eval()
    randomise(theirs)
    ours = create_model("masformer_125m", **SIZES, full=(0, 3), window=3).eval()
    assert load_checkpoint(ours, theirs.state_dict()) == "transformers"
    with torch.inference_mode():
        expected = theirs(ids()).logits
        assert (ours(ids()) - expected).abs().max() <= 1e-4 * expected.std()
