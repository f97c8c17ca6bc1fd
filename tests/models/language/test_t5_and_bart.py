"""T5 and BART give what transformers' models give with the same random weights, and write what those would save."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.inference.beam_search import beam_search
from formwright.inference.generation import generate
from formwright.models import create_model, empty_copy, load_checkpoint, model_specification
from formwright.models.checkpoints import to_layout
from formwright.models.topologies.encoder_decoder import EncoderDecoder
from formwright.nn import Context
from formwright.nn.edits import keep_entries
from formwright.nn.positions import distance_buckets
from tests.conformance.instances import randomise

transformers = pytest.importorskip("transformers")

#: Long enough that distances beyond the last bucket occur.
READ, WRITTEN = 150, 140
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
_T5 = {"vocab_size": 19, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3}
_BART = {
    "vocab_size": 19,
    "d_model": 32,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": READ,
    "forced_eos_token_id": None,
}
_TINY = {"vocabulary": 19, "dim": 32, "depth": 2, "hidden": 48, "length": READ}
Pair = tuple[Any, EncoderDecoder]
KINDS = ("t5", "t5_v1_1", "bart", "bart_scaled")
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes T5's norms in float32; with exact ones it agrees to 1e-9 in float64."""
    norm = transformers.models.t5.modeling_t5.T5LayerNorm

    def forward(self: Any, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)

    monkeypatch.setattr(norm, "forward", forward)


def theirs(kind: str, seed: int = 0) -> Any:
    """transformers' model, randomised; what a T5 1.1 scores with is a matrix of its own, as in its checkpoints."""
    torch.manual_seed(seed)
    if kind.startswith("bart"):
        config = transformers.BartConfig(**_BART, scale_embedding=kind == "bart_scaled")
        source = transformers.BartForConditionalGeneration(config)
    else:
        gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if kind == "t5_v1_1" else {}
        source = transformers.T5ForConditionalGeneration(
            transformers.T5Config(**_T5, decoder_start_token_id=0, **gated)
        )
        if gated:
            source.lm_head.weight = torch.nn.Parameter(source.lm_head.weight.clone())
    source = source.eval()
    randomise(source, seed)
    if kind.startswith("bart"):
        source.final_logits_bias.normal_()
    return source


def ours(kind: str, **changes: Any) -> EncoderDecoder:
    if kind.startswith("bart"):
        return create_model("bart_base", heads=4, scaled=kind == "bart_scaled", **_TINY, **changes).eval()  # type: ignore[return-value]
    return create_model(f"{kind}_small", heads=3, head_dim=8, **_TINY, **changes).eval()  # type: ignore[return-value]


def pair(kind: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Pair:
    source, model = theirs(kind, seed), ours(kind)
    assert load_checkpoint(model, source.state_dict()) == "transformers"
    return source.to(dtype), model.to(dtype)


def texts(model: EncoderDecoder, length: int, seed: int = 0) -> Tensor:
    """Three texts, two of them shorter, with padding behind."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 19, (3, length), generator=generator)
    padding = model.specification.input.padding
    ids[1, 2 * length // 3 :] = padding
    ids[2, length // 4 :] = padding
    return ids


def real(model: EncoderDecoder, ids: Tensor) -> Tensor:
    return ids != model.specification.input.padding


@each_kind
@PRECISIONS
def test_scores_are_those_of_transformers(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    source, model = pair(kind, dtype=dtype)
    read, written = texts(model, READ), texts(model, WRITTEN, seed=1)
    attended, mask = real(model, read), real(model, written)
    with torch.inference_mode():
        expected = source(
            input_ids=read,
            attention_mask=attended.long(),
            decoder_input_ids=written,
            decoder_attention_mask=mask.long(),
        ).logits[mask]
        assert (model(read, written)[mask] - expected).abs().max() <= tolerance * expected.std()


@each_kind
def test_padding_in_front_of_what_is_written(kind: str) -> None:
    source, model = pair(kind)
    read, written = texts(model, 20), texts(model, 12, seed=1).flip(1)
    mask = real(model, written)
    with torch.inference_mode():
        expected = source(
            input_ids=read,
            attention_mask=real(model, read).long(),
            decoder_input_ids=written,
            decoder_attention_mask=mask.long(),
        ).logits[mask]
        scores = model(read, written, Context(mask=mask))[mask]
    assert (scores - expected).abs().max() <= 1e-9 * expected.std()


@each_kind
def test_weights_are_written_as_transformers_has_them(kind: str) -> None:
    source, model = pair(kind)
    expected, written = source.state_dict(), to_layout(model)
    assert set(written) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(written[name], tensor), name
    other = theirs(kind, seed=1).double()
    other.load_state_dict(written)
    read, first = texts(model, 9), texts(model, 5, seed=1)
    with torch.inference_mode():
        scores = [each(input_ids=read, decoder_input_ids=first).logits for each in (other, source)]
    assert torch.equal(*scores)


@each_kind
def test_checkpoints_need_not_repeat_what_is_tied(kind: str) -> None:
    source, model = theirs(kind), ours(kind)
    state = source.state_dict()
    shared = "model.shared.weight" if "model.shared.weight" in state else "shared.weight"
    kept = {name: tensor for name, tensor in state.items() if "embed_tokens" not in name}
    load_checkpoint(model, kept)
    assert torch.equal(model.encoder.embed.weight, state[shared])
    other = ours(kind)
    load_checkpoint(other, {name: tensor for name, tensor in state.items() if name != shared})
    assert torch.equal(other.encoder.embed.weight, state[shared])


def test_weights_that_a_tied_model_has_no_place_for_are_refused() -> None:
    state = theirs("t5_v1_1").state_dict()
    tied = create_model("t5_v1_1_small", heads=3, head_dim=8, tied=True, **_TINY)
    with pytest.raises(UserError, match=r"lm_head.weight differs from shared.weight"):
        load_checkpoint(tied, state)


def test_a_compressed_model_has_no_form_elsewhere() -> None:
    model = ours("t5")
    model.record_edits([keep_entries(model, "encoder.stages.0.blocks.0.branches.0.part", "heads", [0, 2])])
    with pytest.raises(UserError, match="was changed since it was built"):
        to_layout(model)
    with pytest.raises(UserError, match=r"'timm'; known: transformers"):
        to_layout(ours("t5"), "timm")


def test_heads_that_are_cut_leave_the_others_their_own_biases() -> None:
    """Head 1 of every layer writes nothing, so that it is not missed, and heads 0 and 2 keep their columns."""
    model = ours("t5").double()
    randomise(model)
    read, written = texts(model, 9), texts(model, 5, seed=1)
    paths = [path for path, part in model.named_modules() if type(part).__name__ == "BiasedAttention"]
    with torch.no_grad():
        for path in paths:
            model.get_parameter(f"{path}.proj.weight")[:, 8:16] = 0
    expected = model(read, written)
    model.record_edits([keep_entries(model, path, "heads", [0, 2]) for path in paths])
    assert model.get_buffer(f"{paths[-1]}.bias_heads").tolist() == [0, 2]
    torch.testing.assert_close(model(read, written), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 20), (12, 100)])
def test_buckets_of_distances_are_those_of_transformers(causal: bool, buckets: int, reach: int) -> None:
    distances = torch.arange(-300, 301)
    expected = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket(
        distances, bidirectional=not causal, num_buckets=buckets, max_distance=reach
    )
    assert torch.equal(distance_buckets(distances, buckets, reach, causal=causal), expected)


_SIZES = {
    "t5_small": {},
    "t5_base": {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "t5_large": {"d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
    "t5_3b": {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24, "num_heads": 32},
    "t5_11b": {"d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24, "num_heads": 128},
    "t5_v1_1_small": {"d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "t5_v1_1_base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "t5_v1_1_large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "t5_v1_1_xl": {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "t5_v1_1_xxl": {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
    "bart_base": {
        "d_model": 768,
        "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": 3072,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 12,
        "decoder_attention_heads": 12,
    },
    "bart_large": {},
}


@pytest.mark.parametrize("name", _SIZES)
def test_counts_of_published_sizes(name: str) -> None:
    with torch.device("meta"):
        if name.startswith("bart"):
            source = transformers.BartForConditionalGeneration(transformers.BartConfig(**_SIZES[name]))
        else:
            gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if "v1_1" in name else {}
            source = transformers.T5ForConditionalGeneration(transformers.T5Config(**_SIZES[name], **gated))
            if gated:
                source.lm_head.weight = torch.nn.Parameter(source.lm_head.weight.clone())
    assert empty_copy(model_specification(name)).parameter_count() == source.num_parameters()


def writing(kind: str, seed: int = 0) -> Pair:
    """Models whose texts end now and then: with the fifth id that they would write."""
    source, model = theirs(kind, seed).double(), ours(kind, end=None).double()
    if not kind.startswith("bart"):
        source.decoder.final_layer_norm.weight.data *= 2.0 if kind == "t5_v1_1" else 12.0  # surer of the next id
    load_checkpoint(model, source.state_dict())
    first, *_ = zip(*generate(model, texts(model, 9), tokens=5), strict=True)
    ending = ours(kind, end=first[-1]).double()
    load_checkpoint(ending, source.state_dict())
    return source, ending


def answers(rows: Tensor, end: int) -> list[list[int]]:
    """What stands between the start and the end of each row."""
    found = []
    for row in rows[:, 1:].tolist():
        found.append(row[: row.index(end)] if end in row else row)
    return found


def asked(source: Any, model: EncoderDecoder, read: Tensor, **rules: Any) -> Any:
    transformers.logging.set_verbosity_error()
    return source.generate(
        input_ids=read,
        attention_mask=real(model, read).long(),
        max_new_tokens=12,
        eos_token_id=model.specification.end,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **rules,
    )


@each_kind
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_texts_are_those_of_transformers(kind: str, seed: int) -> None:
    source, model = writing(kind, seed)
    read, end = texts(model, 9, seed), model.specification.end
    expected = answers(asked(source, model, read, num_beams=1).sequences, end)
    steps = list(generate(model, read, tokens=12))
    assert [[step[row] for step in steps if step[row] is not None] for row in range(3)] == expected
    rows = [[token for token in row if token != model.specification.input.padding] for row in read.tolist()]
    assert list(generate(model, rows, tokens=12)) == steps, "prompts of several lengths are padded"


@each_kind
@pytest.mark.parametrize(
    "rules",
    [
        {"num_beams": 2, "length_penalty": 1.0, "early_stopping": False},
        {"num_beams": 4, "length_penalty": 0.0, "early_stopping": True},
        {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
        {"num_beams": 3, "length_penalty": -1.0, "early_stopping": False},
        {"num_beams": 4, "length_penalty": 1.0, "early_stopping": "never"},
    ],
    ids=lambda rules: "-".join(str(value) for value in rules.values()),
)
def test_beams_are_those_of_transformers(kind: str, rules: dict[str, Any]) -> None:
    source, model = writing(kind)
    beams, lengths = rules["num_beams"], set()
    for seed in range(2):
        read = texts(model, 9, seed)
        expected = asked(source, model, read, num_return_sequences=beams, **rules)
        found = beam_search(
            model,
            read,
            beams=beams,
            tokens=12,
            length_penalty=rules["length_penalty"],
            early_stopping=rules["early_stopping"],
        )
        assert [text.tokens for row in found for text in row] == answers(expected.sequences, model.specification.end)
        scores = torch.tensor([[text.score for text in row] for row in found])
        torch.testing.assert_close(scores.flatten(), expected.sequences_scores, rtol=1e-4, atol=1e-4)
        lengths |= {len(text.tokens) for row in found for text in row}
    assert len(lengths) > 1, "some texts end before they must"
