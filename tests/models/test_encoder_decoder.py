"""Encoder-decoders of any input: streams with a memory, what they refuse, and that they learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.batch import Batch, call
from formwright.compression import prune
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.errors import UserError
from formwright.inference.generation import generate
from formwright.measurement import count_macs
from formwright.models import create_model
from formwright.models.topologies.encoder_decoder import EncoderDecoder, EncoderDecoderSpec
from formwright.nn import BlockSpec, BranchSpec, Context, part
from formwright.nn.specification import DecoderInput, ImageInput, Source, StageSpec, VectorInput
from formwright.nn.streaming import LENGTH, select
from formwright.objectives.language import NextToken
from formwright.training import Recipe, Trainer
from tests.conformance.instances import TINY_NETWORKS, named_inputs, randomise, tiny_network

each_model = pytest.mark.parametrize("name", ["t5", "t5_v1_1", "bart"])
LENGTH_WRITTEN = TINY_NETWORKS["t5"][1]["length"]


def built(specification: EncoderDecoderSpec) -> EncoderDecoder:
    torch.manual_seed(0)
    model = EncoderDecoder(specification).double().eval()
    randomise(model)
    return model


def of_anything(source: Source, embed: str, **options: Any) -> EncoderDecoderSpec:
    """A small encoder-decoder whose encoder reads ``source``, and is wider than its decoder."""
    norm = part("layer_norm")
    reading = BlockSpec((BranchSpec(part("attention", heads=2), norm), BranchSpec(part("mlp"), norm)))
    causal, cross = part("attention", heads=2, causal=True), part("cross_attention", heads=2, memory_dim=24)
    writing = BlockSpec(tuple(BranchSpec(each, norm) for each in (causal, cross, part("mlp"))))
    return EncoderDecoderSpec(
        family="mine",
        name="mine",
        task="captioning",
        input=source,
        decoder_input=DecoderInput(11, 8),
        classes=11,
        embed=part(embed, **options),
        encoder=(StageSpec(24, (reading,)),),
        encoder_norm=norm,
        decoder_embed=part("token_embedding"),
        decoder=(StageSpec(16, (writing,), entry=(part("learned_positions"),)),),
        head=part("token_scores", norm=norm, bias=True),
    )


def streamed(model: EncoderDecoder, read: Tensor, written: Tensor, sizes: list[int], **more: Tensor) -> Tensor:
    """The scores for pieces of ``written`` of these sizes, one after the other."""
    state = model.start(read, written.shape[1], **more)
    shapes, pieces = {name: tensor.shape for name, tensor in state.items()}, []
    for piece in written.split(sizes, dim=1):
        scores, state = model.stream(piece, state)
        assert {name: tensor.shape for name, tensor in state.items()} == shapes, "the state keeps its shapes"
        pieces.append(scores)
    return torch.cat(pieces, dim=1)


def padded(name: str) -> tuple[EncoderDecoder, Tensor, Tensor]:
    """A model, texts to read of which the second is shorter, and texts to write."""
    model = tiny_network(name)
    inputs = named_inputs(model)
    inputs["input"][1, 5:] = model.specification.input.padding
    return model, inputs["input"], inputs["decoder_input"]  # type: ignore[return-value]


@each_model
@pytest.mark.parametrize("sizes", [[1] * LENGTH_WRITTEN, [LENGTH_WRITTEN], [3, 1, LENGTH_WRITTEN - 4]], ids=str)
def test_any_division_gives_the_whole(name: str, sizes: list[int]) -> None:
    model, read, written = padded(name)
    with torch.inference_mode():
        torch.testing.assert_close(streamed(model, read, written, sizes), model(read, written), rtol=1e-9, atol=1e-9)


@each_model
def test_select_other_lengths_go_on_side_by_side(name: str) -> None:
    """Four ids and two in one call, then one each: as if every row had been alone."""
    model, read, written = padded(name)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    with torch.inference_mode():
        expected = model(read, written)
        state = model.start(read, LENGTH_WRITTEN)
        first, state = model.stream(written[:, :4], state, Context(mask=mask))
        assert state[LENGTH].tolist() == [4, 2]
        last, _ = model.stream(torch.stack([written[0, 4], written[1, 2]])[:, None], state)
    torch.testing.assert_close(first[mask], expected[:, :4][mask], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(last[:, 0], torch.stack([expected[0, 4], expected[1, 2]]), rtol=1e-9, atol=1e-9)


@each_model
def test_select_a_state_are_chosen_memory_included(name: str) -> None:
    model, read, written = padded(name)
    rows = torch.tensor([1, 0, 1])
    with torch.inference_mode():
        _, state = model.stream(written[:, :3], model.start(read, LENGTH_WRITTEN))
        scores, _ = model.stream(written[rows, 3:5], select(state, rows))
        torch.testing.assert_close(scores, model(read, written)[rows, 3:5], rtol=1e-9, atol=1e-9)


@each_model
def test_padding_of_what_is_read_is_as_if_it_were_not_there(name: str) -> None:
    model, read, written = padded(name)
    with torch.inference_mode():
        torch.testing.assert_close(model(read, written)[1], model(read[1:, :5], written[1:])[0], rtol=1e-9, atol=1e-9)
        nothing = torch.full_like(read, model.specification.input.padding)
        assert torch.isfinite(model(nothing, written)).all()


def test_an_encoder_reads_frames_of_many_lengths() -> None:
    model = built(of_anything(VectorInput(5, 9, sized=True), "linear_embedding"))
    assert list(model.inputs) == ["input", "decoder_input", "lengths"]
    frames, written = torch.randn(2, 9, 5).double(), torch.randint(11, (2, 8))
    lengths = torch.tensor([9, 4])
    with torch.inference_mode():
        scores = call(model, {"input": frames, "decoder_input": written, "lengths": lengths})
        torch.testing.assert_close(scores[1:], model(frames[1:, :4], written[1:], lengths=lengths[1:]))
        torch.testing.assert_close(streamed(model, frames, written, [3, 5], lengths=lengths), scores)
    with pytest.raises(UserError, match="give `lengths` beside the input"):
        model(frames, written)


def test_an_encoder_reads_pictures() -> None:
    model = built(of_anything(ImageInput(3, (12, 8)), "patch_embedding", kernel=4))
    images, written = torch.randn(2, 3, 12, 8).double(), torch.randint(11, (2, 8))
    with torch.inference_mode():
        assert model.encode(images).memory.shape == (2, 6, 24)
        torch.testing.assert_close(streamed(model, images, written, [2, 6]), model(images, written))
    assert [grid.shape for grid in model.features({"input": images, "decoder_input": written})] == [
        (2, 3, 2, 24),
        (2, 8, 16),
    ]
    assert [(info.name, info.stride) for info in model.feature_info] == [
        ("encoder.stages.0", 4),
        ("decoder.stages.0", 1),
    ]


def test_what_does_not_fit_is_said() -> None:
    model, read, written = padded("bart")
    with pytest.raises(UserError, match="takes input, decoder_input; got a single tensor"):
        call(model, read)
    with pytest.raises(UserError, match="takes input, decoder_input; got input, text"):
        call(model, {"input": read, "text": written})
    with pytest.raises(UserError, match=r"Expected token ids of shape \(batch, time\)"):
        model(read.double(), written)
    with pytest.raises(UserError, match=r"at most 9 tokens, and 18 came"):
        model(read.repeat(1, 2), written)
    with pytest.raises(UserError, match=r"at most 9 tokens, and 18 came"):
        model(read, written.repeat(1, 2))
    with pytest.raises(UserError, match=r"at most 9 tokens, and 10 came"):
        model.start(read, 10)
    with pytest.raises(UserError, match=r"begins with a memory.*start\(input, capacity\)"):
        model.init_state(2, 8)
    state = model.start(read, 3)
    with pytest.raises(UserError, match="made for 3 tokens, and the sequence now has 4"):
        model.stream(written[:, :4], state)
    with pytest.raises(UserError, match="keeps the memory that it began with"):
        model.stream(written[:, :1], state, Context(memory=torch.zeros(2, 3, 16).double()))
    with pytest.raises(UserError, match=r"expects a memory \(2, memory, 16\), and got \(3, 5, 16\)"):
        model.decode(written, Context(memory=torch.zeros(3, 5, 16).double()))
    memory = Context(memory=torch.zeros(2, 5, 16).double(), memory_mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(UserError, match=r"has a mask \(2, 5\), and got one of shape \(2, 4\)"):
        model.decode(written, memory)
    with pytest.raises(UserError, match="no memory to attend to"):
        model.decode(written, Context())


def test_a_decoder_that_attends_to_nothing_is_refused() -> None:
    specification = of_anything(VectorInput(5, 9), "linear_embedding")
    blocks = tuple(BlockSpec((*block.branches[:1], *block.branches[2:])) for block in specification.decoder[0].blocks)
    decoder = (dataclasses.replace(specification.decoder[0], blocks=blocks),)
    with pytest.raises(UserError, match="No part of mine uses the memory, memory_mask"):
        EncoderDecoder(dataclasses.replace(specification, decoder=decoder))


def test_biases_that_no_attention_takes_are_refused() -> None:
    specification = of_anything(VectorInput(5, 9), "linear_embedding")
    entry = (part("bucketed_position_bias", heads=2),)
    encoder = (dataclasses.replace(specification.encoder[0], entry=entry),)
    with pytest.raises(UserError, match="No part of mine uses the distance_bias"):
        EncoderDecoder(dataclasses.replace(specification, encoder=encoder))


SYMBOLS, START, END = 10, 0, 1


def backwards(generator: torch.Generator, count: int = 32) -> Batch:
    """Four symbols of ten and an end, and the same from the end on."""
    shuffled = torch.rand(count, SYMBOLS, generator=generator).argsort(1)[:, :4] + 2
    end = torch.full((count, 1), END)
    wanted = shuffled.flip(1)
    start = torch.full((count, 1), START)
    inputs = {"input": torch.cat([shuffled, end], 1), "decoder_input": torch.cat([start, wanted], 1)}
    return Batch(inputs, torch.cat([wanted, end], 1))


def test_a_small_t5_learns_to_write_backwards() -> None:
    torch.manual_seed(0)
    model = create_model(
        "t5_small", vocabulary=SYMBOLS + 2, dim=64, depth=2, heads=4, head_dim=16, hidden=128, length=5
    )
    recipe = Recipe(learning_rate=0.03, weight_decay=0.0, batch_size=32, warmup=20, ema_decay=0.0)
    trainer = Trainer(model, NextToken(), GeneratedBatches(backwards), recipe)
    trainer.finish_at(300)
    trainer.train(steps=300)
    held_out = backwards(torch.Generator().manual_seed(9), 200)
    steps = list(generate(model, held_out.inputs["input"], tokens=6))
    written = [[step[row] for step in steps if step[row] is not None] for row in range(200)]
    right = sum(text == wanted for text, wanted in zip(written, held_out.targets[:, :-1].tolist(), strict=True))
    assert right >= 180, "one in 5040 is right by chance"


@each_model
def test_heads_and_hidden_channels_are_pruned(name: str) -> None:
    model = tiny_network(name).float()
    inputs = named_inputs(model)
    batch = Batch(inputs, torch.randint(11, inputs["decoder_input"].shape))
    before = count_macs(model, inputs)
    for calibration in (None, [batch]):
        smaller = prune(model, calibration, keep=0.7, multiple=2, objective=NextToken())
        assert count_macs(smaller, inputs) <= 0.7 * before
        assert torch.isfinite(call(smaller, inputs)).all()
        assert {edit.target.partition(".")[0] for edit in smaller.specification.edits} == {"encoder", "decoder"}
