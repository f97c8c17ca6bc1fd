"""AlgoFormer: a stack before, a stack that is looped, and a stack after, for algorithms of three such steps.

Beside it stand what its paper compares it with: a plain stack, and one looped stack whose input is added each time.

Source: On the Expressive Power of a Variant of the Looped Transformer, arXiv 2402.13572; the looped Transformer:
arXiv 2311.12424. Blocks are those of GPT-2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import Tensor

from formwright.errors import UserError
from formwright.models import Chain, register_family
from formwright.models.language.transformer import layer_mixers, transformer_blocks
from formwright.nn.context import EMPTY
from formwright.nn.specification import BlockSpec, ChainSpec, StageSpec, VectorInput, part

_NORM = part("layer_norm")


def algoformer(
    *,
    name: str = "algoformer",
    dim: int = 256,
    heads: int = 8,
    depth_before: int = 1,
    depth_looped: int = 1,
    depth_after: int = 1,
    loops: int = 20,
    inject: bool = False,
    channels: int = 20,
    length: int = 80,
    outputs: int = 1,
) -> ChainSpec:
    """A Transformer with a loop, from vectors ``x_1, y_1, x_2, y_2, ...`` to predictions at every one of them.

    Args:
        dim: channels of a token.
        heads: attention heads.
        depth_before: blocks before the loop.
        depth_looped: blocks in the loop; their number of parameters does not depend on ``loops``.
        depth_after: blocks after it.
        loops: how often the tokens pass through the loop.
        inject: add what entered the loop again before each further time, as the looped Transformer does.
        channels: numbers of a vector.
        length: longest sequence of vectors.
        outputs: numbers predicted at each vector.
    """
    depths = ((depth_before, 1), (depth_looped, loops), (depth_after, 1))
    stages = [
        StageSpec(dim, _blocks(depth, heads), repeats=repeats, inject=inject and repeats > 1)
        for depth, repeats in depths
        if depth
    ]
    stages[0] = dataclasses.replace(stages[0], entry=(part("learned_positions"),))
    return ChainSpec(
        family="algoformer",
        name=name,
        task="in-context-regression",
        input=VectorInput(channels, length),
        classes=outputs,
        embed=part("linear_embedding"),
        stages=tuple(stages),
        head=part("token_scores", norm=_NORM, bias=True),
    )


def _blocks(depth: int, heads: int) -> tuple[BlockSpec, ...]:
    attention = part("attention", heads=heads, qkv_bias=True)
    return transformer_blocks(layer_mixers(attention, depth, causal=True), part("mlp", activation="gelu_tanh"), _NORM)


def with_loops(model: Chain, loops: int) -> Chain:
    """The same model with a different number of loops, its weights copied."""
    specification = model.specification
    stages = [
        dataclasses.replace(stage, repeats=loops) if index == _looped(model) else stage
        for index, stage in enumerate(specification.stages)
    ]
    longer = Chain(dataclasses.replace(specification, stages=tuple(stages))).to(next(model.parameters()))
    longer.load_state_dict(model.state_dict())
    return longer.train(model.training)


def loop_scores(model: Chain, x: Tensor, last: int) -> Iterator[Tensor]:
    """Predictions ``(batch, time, outputs)`` after each of the ``last`` loops: what training averages its loss over.

    Gradients flow through all loops, as the stack before them has no other way to learn.

    Raises:
        UserError: the model has no loop, or fewer loops.
    """
    looped = _looped(model)
    loops = model.specification.stages[looped].repeats
    if not 1 <= last <= loops:
        raise UserError(f"The loss can be averaged over 1 to {loops} loops of this model, not {last}.")
    model.check_input(x)
    tokens, context = model.backbone.embed(x, EMPTY)
    stages = list(model.backbone.stages)
    for stage in stages[:looped]:
        tokens, context = stage(tokens, context)
    for entry in stages[looped].entry:  # type: ignore[union-attr]
        tokens, context = entry(tokens, context)
    for loop, (after, passed) in enumerate(stages[looped].loops(tokens, context)):  # type: ignore[operator]
        if loop < loops - last:
            continue
        for stage in stages[looped + 1 :]:
            after, passed = stage(after, passed)
        yield model.head(after, passed)


def has_loop(model: Chain) -> bool:
    """Whether a stage of the model is passed more than once."""
    return any(stage.repeats > 1 for stage in model.specification.stages)


def _looped(model: Chain) -> int:
    repeats = [stage.repeats for stage in model.specification.stages]
    if not has_loop(model):
        raise UserError("This model has no loop; build one with loops=2 or more.")
    return repeats.index(max(repeats))


register_family(
    algoformer,
    {
        "algoformer": {},
        "looped_transformer": {"depth_before": 0, "depth_after": 0, "inject": True},
        "algoformer_standard": {"depth_before": 12, "depth_looped": 0, "depth_after": 0},
    },
    family="algoformer",
    task="in-context-regression",
)
