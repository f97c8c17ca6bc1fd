"""A speech recogniser: frames become fewer tokens, an encoder reads them, and each token says a label or nothing.

The encoder is a Transformer with rotary positions, or has any mixers that are named. One that is causal transcribes
while it listens. It is trained by :class:`~formwright.objectives.transcription.Transcription`.

Sources: Connectionist Temporal Classification, ICML 2006; the stem of Robust Speech Recognition via Large-Scale Weak
Supervision, arXiv 2212.04356.
"""

from __future__ import annotations

from collections.abc import Sequence

from formwright.models import register_family
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, VectorInput, part

_NORM = part("layer_norm")


def ctc_encoder(
    *,
    name: str = "ctc_encoder",
    dim: int = 64,
    depth: int = 2,
    heads: int = 4,
    strides: Sequence[int] = (2, 2),
    mlp_ratio: float = 4.0,
    mixer: PartSpec | None = None,
    causal: bool = False,
    lookahead: bool = True,
    channels: int = 40,
    length: int = 64,
    classes: int = 11,
    sized: bool = True,
) -> ChainSpec:
    """An encoder with scores for every token.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        strides: of the convolutions in front; their product is how many frames become a token.
        mlp_ratio: hidden width of the MLP over ``dim``.
        mixer: another mixer in place of attention.
        causal: tokens see no later ones, so that the model streams; a ``mixer`` is then causal by itself.
        lookahead: let the convolutions in front see frames on both sides, so that a stream is a few frames late.
        channels: bands of the spectrogram.
        length: frames of a typical row; any number will do.
        classes: labels, and the blank, which is class 0.
        sized: whether rows come with their lengths, or all frames of every row are real.
    """
    attention = part("attention", heads=heads, causal=causal, rotary={}, qkv_bias=True)
    block = BlockSpec(
        (BranchSpec(mixer or attention, norm=_NORM), BranchSpec(part("mlp", ratio=mlp_ratio), norm=_NORM))
    )
    return ChainSpec(
        family="ctc_encoder",
        name=name,
        task="speech-recognition",
        input=VectorInput(channels, length, sized=sized),
        classes=classes,
        embed=part("frame_subsampling", strides=tuple(strides), causal=not lookahead),
        stages=(StageSpec(dim, (block,) * depth),),
        head=part("token_scores", norm=_NORM, bias=True),
    )


register_family(
    ctc_encoder,
    {
        "ctc_encoder_small": {},
        "ctc_encoder_small_streaming": {"causal": True, "lookahead": False},
        "ctc_encoder_base": {"dim": 256, "depth": 6, "channels": 80, "length": 512, "classes": 32},
    },
    family="ctc_encoder",
    task="speech-recognition",
)
