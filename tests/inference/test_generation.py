"""Texts that go on: equal to choosing from the parallel form's scores, side by side as alone, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import softmax

from formwright.data.tokenization import ByteTokenizer, train_tokenizer
from formwright.errors import UserError
from formwright.inference import generation
from formwright.inference.generation import generate, generate_text, read_prompts
from formwright.inference.sampling import GREEDY, Sampling
from formwright.models import Model, create_model
from formwright.nn import part
from tests.conformance.instances import randomise

VOCABULARY = 11
PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 10]]


def decoder(**changes: object) -> Model:
    options = {"vocabulary": VOCABULARY, "dim": 16, "depth": 2, "heads": 2, "tied": False, **changes}
    model = create_model("decoder_tiny", **options).double().eval()
    randomise(model)
    return model


def continued(model: Model, prompts: Sequence[Sequence[int]], **options: object) -> list[list[int]]:
    steps = list(generate(model, prompts, **options))  # type: ignore[arg-type]
    return [[step[row] for step in steps if step[row] is not None] for row in range(len(prompts))]  # type: ignore[misc]


def greedy_by_the_parallel_form(model: Model, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


MIXERS = {
    "attention": "attention",
    "window": part("attention", window=2),
    "delta-rule": part("delta_rule", heads=2),
    "mamba": "mamba",
    "mamba2": part("mamba2", head_dim=4),
    "gated": part("gated_linear_attention", heads=2),
    "linear": part("linear_attention", heads=2),
    "hybrid": (part("delta_rule", heads=2), "attention"),
}
CONSTANT = {name: mixers for name, mixers in MIXERS.items() if name not in ("attention", "hybrid")}


@pytest.mark.parametrize("mixers", MIXERS.values(), ids=MIXERS)
def test_greedy_texts_are_those_of_the_parallel_form(mixers: object) -> None:
    model = decoder(mixers=mixers)
    expected = [greedy_by_the_parallel_form(model, prompt, 12) for prompt in PROMPTS]
    assert continued(model, PROMPTS, tokens=12) == expected
    assert continued(model, torch.tensor(PROMPTS[:1]), tokens=12) == expected[:1]


def test_long_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder()
    monkeypatch.setattr(generation, "PROMPT_PIECE", 2)
    with torch.inference_mode():
        scores, state = read_prompts(model, PROMPTS, model.init_state(3, 5))
        for row, prompt in enumerate(PROMPTS):
            expected = model(torch.tensor([prompt]))[0, -1]
            torch.testing.assert_close(scores[row], expected, rtol=1e-9, atol=1e-9)
    assert state["length"].tolist() == [5, 1, 3]


def test_a_row_draws_as_if_it_were_alone() -> None:
    model = decoder()
    side_by_side = continued(model, PROMPTS, tokens=8, sampling=Sampling(seed=3))
    for row, prompt in enumerate(PROMPTS):
        assert continued(model, [prompt], tokens=8, sampling=Sampling(seed=3 + row)) == [side_by_side[row]]
    assert continued(model, PROMPTS, tokens=8, sampling=Sampling(seed=4)) != side_by_side


def test_a_stop_token_ends_its_row_alone() -> None:
    model = decoder()
    free = continued(model, PROMPTS, tokens=10)
    stop = free[0][3]
    stopped = continued(model, PROMPTS, tokens=10, stop=[stop])
    for row, text in enumerate(free):
        assert stopped[row] == (text[: text.index(stop)] if stop in text else text)
    assert len(stopped[0]) <= 3
    assert any(len(row) == 10 for row in stopped), "the test needs a row that goes on"
    assert list(generate(model, PROMPTS[:1], tokens=10, stop=range(VOCABULARY))) == []


@pytest.mark.parametrize("mixers", CONSTANT.values(), ids=CONSTANT)
def test_the_state_does_not_grow_with_the_text(mixers: object) -> None:
    model = decoder(mixers=mixers)
    shapes = [{name: tensor.shape for name, tensor in model.init_state(1, length).items()} for length in (10, 100_000)]
    assert shapes[0] == shapes[1]


def test_a_training_model_is_quiet_meanwhile() -> None:
    model = decoder(dropout=0.5)
    expected = continued(model, PROMPTS, tokens=5)
    model.train()
    assert continued(model, PROMPTS, tokens=5) == expected
    assert model.training


SCORES = np.array([[2.0, 1.0, 0.0, -1.0]])


def test_temperature_top_k_and_top_p() -> None:
    np.testing.assert_allclose(Sampling().probabilities(SCORES), softmax(SCORES, -1))
    np.testing.assert_allclose(Sampling(temperature=2.0).probabilities(SCORES), softmax(SCORES / 2, -1))
    assert Sampling(temperature=0).probabilities(SCORES).tolist() == [[1, 0, 0, 0]]
    two = softmax(SCORES[:, :2], -1)
    np.testing.assert_allclose(Sampling(top_k=2).probabilities(SCORES)[:, :2], two)
    assert Sampling(top_k=2).probabilities(SCORES)[0, 2:].tolist() == [0, 0]
    assert np.array_equal(Sampling(top_k=9).probabilities(SCORES), Sampling().probabilities(SCORES))
    np.testing.assert_allclose(Sampling(top_p=0.7).probabilities(SCORES)[:, :2], two)
    assert Sampling(top_p=0.01).probabilities(SCORES).tolist() == [[1, 0, 0, 0]]
    shuffled = SCORES[:, [2, 0, 3, 1]]
    assert Sampling(top_p=0.7).probabilities(shuffled)[0, [0, 2]].tolist() == [0, 0]


class Fixed(np.random.Generator):
    """Draws what it was given."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64())
        self.value = value

    def random(self) -> float:  # type: ignore[override]
        return self.value


def test_each_token_is_drawn_as_often_as_it_is_likely() -> None:
    sampling, count = Sampling(top_k=3), 4000
    chosen = sampling.choose(SCORES.astype(np.float32).repeat(count, 0), sampling.generators(count))
    shares = np.bincount(chosen, minlength=4) / count
    np.testing.assert_allclose(shares, sampling.probabilities(SCORES)[0], atol=0.03)
    assert shares[3] == 0
    ends = [Fixed(0.0), Fixed(1 - 2**-53)]
    unlikely_ends = np.array([[-np.inf, 0.3, 0.1, -np.inf]] * 2, np.float32)
    assert Sampling().choose(unlikely_ends, ends).tolist() == [1, 2]


def test_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    seen = np.array([[True, False, False, True]])
    expected = softmax(np.array([[1.0, 1.0, 0.0, -2.0]]), -1)
    np.testing.assert_allclose(Sampling(repetition_penalty=2.0).probabilities(SCORES, seen), expected)


def test_seen_tokens_are_those_of_prompt_and_text() -> None:
    model, sampling = decoder(), Sampling(temperature=0, repetition_penalty=3.0)
    texts = continued(model, PROMPTS, tokens=6, sampling=sampling)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = list(prompt)
        for _ in range(6):
            seen = np.zeros((1, VOCABULARY), bool)
            seen[0, ids] = True
            ids += sampling.choose(model(torch.tensor([ids]))[:, -1].detach().numpy(), [], seen).tolist()
        assert ids[len(prompt) :] == text
    assert texts != continued(model, PROMPTS, tokens=6)


def test_sampling_agrees_with_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(4, 50, generator=generator)
    prompts = torch.randint(50, (4, 6), generator=generator)
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter(1, prompts, True)
    warped = transformers.RepetitionPenaltyLogitsProcessor(1.3)(prompts, scores.clone())
    warped = transformers.TemperatureLogitsWarper(0.7)(prompts, warped)
    warped = transformers.TopKLogitsWarper(20)(prompts, warped)
    warped = transformers.TopPLogitsWarper(0.8)(prompts, warped)
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.3)
    found = sampling.probabilities(scores.numpy(), seen.numpy())
    torch.testing.assert_close(torch.from_numpy(found), warped.softmax(-1))


def test_text_in_text_out() -> None:
    model = decoder(vocabulary=258)
    texts = [
        "".join(parts) for parts in zip(*generate_text(model, ByteTokenizer(), ["ab", "é"], tokens=9), strict=True)
    ]
    ids = continued(model, [list(b"ab"), list("é".encode())], tokens=9, stop=[256])
    assert [ByteTokenizer().decode(row).rstrip("\ufffd") for row in ids] == [text.rstrip("\ufffd") for text in texts]


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1], []], {}, "prompt 2 of 2 is empty"),
        ([], {}, "there is none"),
        ([[1, 11]], {}, "11 tokens, and a prompt has ids from 1 to 11"),
        ([[-1]], {}, "ids from -1"),
        ([[1]], {"tokens": 0}, "0 were asked"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompts: list[list[int]], options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(generate(decoder(), prompts, **options))  # type: ignore[arg-type]


def test_models_that_cannot_write_are_refused() -> None:
    with pytest.raises(UserError, match="made for text-classification and writes no text"):
        list(generate(create_model("encoder_tiny", dim=16, depth=1, heads=2), [[1]]))
    short = create_model("gpt2", vocabulary=11, dim=16, depth=1, heads=2, length=4)
    assert len(list(generate(short, [[1, 2]], tokens=3))) == 3
    with pytest.raises(UserError, match="at most 4 tokens"):
        list(generate(short, [[1, 2]], tokens=4))
    with pytest.raises(UserError, match="do not belong together"):
        list(generate_text(decoder(), train_tokenizer(["some text"], 260), ["a"]))


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition_penalty": 0.0}, {"seed": -1}],
)
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    name = next(iter(options))
    with pytest.raises(UserError, match=name):
        Sampling(**options)  # type: ignore[arg-type]


def test_greedy_is_temperature_zero() -> None:
    assert Sampling(temperature=0.0) == GREEDY
