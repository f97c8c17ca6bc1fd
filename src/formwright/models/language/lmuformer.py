"""LMUFormer: spoken words from frames of a spectrogram, with a memory of fixed dynamics instead of attention.

Source: LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units, arXiv 2402.04882. Equal to the
authors' model without spikes, whose checkpoints load. Theirs looks five frames ahead and takes exactly 128 of them;
``lmuformer_streaming`` looks back only, and gives scores at every frame.
"""

from __future__ import annotations

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, StageSpec, VectorInput, part


def lmuformer(
    *,
    name: str = "lmuformer",
    dim: int = 256,
    depth: int = 1,
    order: int | None = None,
    window: int = 128,
    mlp_ratio: float = 4.0,
    streaming: bool = False,
    channels: int = 128,
    length: int = 128,
    classes: int = 35,
) -> ChainSpec:
    """An LMUFormer.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        order: coefficients of each memory; ``dim`` if unset.
        window: frames that a memory reaches back.
        mlp_ratio: hidden width of the MLP over ``dim``.
        streaming: see no later frames, and give scores ``(batch, time, classes)`` at every frame.
        channels: bands of the spectrogram.
        length: frames of a word; any number will do.
        classes: number of words.
    """
    mixer = part("legendre_memory", window=window, order=order)
    block = BlockSpec((BranchSpec(mixer), BranchSpec(part("normed_mlp", ratio=mlp_ratio))))
    return ChainSpec(
        family="lmuformer",
        name=name,
        task="audio-classification",
        input=VectorInput(channels, length),
        classes=classes,
        embed=part("frame_convolutions", causal=streaming),
        stages=(StageSpec(dim, (block,) * depth),),
        head=part("running_scores") if streaming else part("classifier"),
    )


register_family(
    lmuformer,
    {"lmuformer": {}, "lmuformer_streaming": {"streaming": True}},
    family="lmuformer",
    task="audio-classification",
)


def _without_tables(state: State, model: Network) -> State:
    """The matrices of the memory are not learned, and follow from its sizes."""
    return {name: tensor for name, tensor in state.items() if ".lmu." not in name}


_BLOCK = r"block\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "lmuformer",
    Layout(
        name="the authors",
        marker=r"^block\.0\.attn\.lmu\.W_u\.weight$",
        renames=(
            (r"patch_embed\.conv_layers\.(\d+)\.0\.(.*)", r"backbone.embed.layers.\1.conv.\2"),
            (r"patch_embed\.conv_layers\.(\d+)\.3\.(.*)", r"backbone.embed.layers.\1.norm.\2"),
            (r"patch_embed\.rpe_conv\.(.*)", r"backbone.embed.position.conv.\1"),
            (_BLOCK + r"attn\.lmu\.W_u\.(.*)", _OURS + r"0.part.write.\2"),
            (_BLOCK + r"attn\.lmu\.W_h\.(.*)", _OURS + r"0.part.read.\2"),
            (_BLOCK + r"attn\.proj_conv\.(.*)", _OURS + r"0.part.proj.\2"),
            (_BLOCK + r"attn\.proj_bn\.(.*)", _OURS + r"0.part.norm.norm.\2"),
            (_BLOCK + r"mlp\.fc([12])_conv\.(.*)", _OURS + r"1.part.fc\2.\3"),
            (_BLOCK + r"mlp\.fc([12])_bn\.(.*)", _OURS + r"1.part.norm\2.\3"),
            (r"head\.(.*)", r"head.linear.\1"),
        ),
        convert=_without_tables,
    ),
)
