from __future__ import annotations

import itertools

import pytest
import torch

from formwright.errors import UserError
from formwright.inference.beam_search import beam_search
from formwright.inference.generation import generate
from formwright.models import Network, create_model
from tests.conformance.instances import randomise, tiny_network

VOCABULARY, TOKENS = 4, 3


def decoder(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    model = create_model("decoder_tiny", vocabulary=VOCABULARY, length=16, dim=16, depth=2, heads=2).double().eval()
    randomise(model, seed)
    return model


def likelihoods(model: Network, prompt: list[int], stop: int) -> dict[tuple[int, ...], float]:
    """The log probability of every text of up to ``TOKENS`` ids that ends with ``stop`` or is as long."""
    found = {}
    for ids in itertools.product(range(VOCABULARY), repeat=TOKENS):
        text = ids[: ids.index(stop) + 1] if stop in ids else ids
        scores = model(torch.tensor([[*prompt, *text]]))[0].log_softmax(-1)
        found[text] = float(sum(scores[len(prompt) - 1 + place, token] for place, token in enumerate(text)))
    return found


@torch.inference_mode()
@pytest.mark.parametrize("penalty", [-0.5, 0.0, 1.0])
def test_with_beams_for_all_texts_the_likeliest_are_found(penalty: float) -> None:
    model = decoder()
    prompts = [[1, 2], [3]]
    beams = VOCABULARY**TOKENS
    found = beam_search(model, prompts, beams=beams, tokens=TOKENS, length_penalty=penalty, stop=[0])
    for prompt, texts in zip(prompts, found, strict=True):
        every = likelihoods(model, prompt, stop=0)
        ranked = sorted(every, key=lambda text: -every[text] / len(text) ** penalty)
        assert [text.tokens for text in texts] == [[token for token in text if token] for text in ranked]
        worth = [every[text] / len(text) ** penalty for text in ranked]
        torch.testing.assert_close([text.score for text in texts], worth)


def test_prompts_do_not_disturb_each_other() -> None:
    for model in (decoder(), tiny_network("t5")):
        prompts = [[1, 2, 3, 2, 1], [3], [2, 2]]
        together = beam_search(model, prompts, beams=3, tokens=6)
        alone = [beam_search(model, [prompt], beams=3, tokens=6)[0] for prompt in prompts]
        for left, right in zip(together, alone, strict=True):
            assert [text.tokens for text in left] == [text.tokens for text in right]
            assert [text.score for text in left] == pytest.approx([text.score for text in right])


def test_one_beam_is_greedy_and_the_mode_of_the_model_stays() -> None:
    model = decoder().train()
    steps = list(generate(model, [[1, 2]], tokens=5))
    ((found,),) = beam_search(model, [[1, 2]], beams=1, tokens=5)
    assert found.tokens == [step[0] for step in steps]
    assert model.training


def test_more_beams_find_likelier_texts() -> None:
    model = decoder(seed=3)
    scores = [beam_search(model, [[1]], beams=beams, tokens=8, length_penalty=0.0)[0][0].score for beams in (1, 8)]
    assert scores[1] >= scores[0]


def test_what_cannot_be_searched_is_said() -> None:
    model = decoder()
    with pytest.raises(UserError, match="at least one text, and beams=0"):
        beam_search(model, [[1]], beams=0)
    with pytest.raises(UserError, match="true, false or 'never', and 'soon'"):
        beam_search(model, [[1]], early_stopping="soon")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="At least one token has to be generated, and 0"):
        beam_search(model, [[1]], tokens=0)
    with pytest.raises(UserError, match="prompt 2 of 2 is empty"):
        beam_search(model, [[1], []])
    with pytest.raises(UserError, match="writes no text"):
        beam_search(create_model("bert_tiny"), [[1]])
    with pytest.raises(UserError, match="at most 9 tokens"):
        beam_search(tiny_network("bart"), [[4]], tokens=20)
    unpadded = create_model("t5_small", vocabulary=11, length=9, dim=16, depth=1, heads=2, hidden=24, padding=None)
    with pytest.raises(UserError, match="knows no padding"):
        beam_search(unpadded, [[4, 5], [4]])
    assert len(beam_search(unpadded, [[4, 5], [4, 3]], beams=2, tokens=3)) == 2
