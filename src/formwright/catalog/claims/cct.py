"""Claims of the Compact Transformers: sizes of the authors' code, its outputs, and its ladder on small data."""

from __future__ import annotations

from collections.abc import Mapping

from formwright.catalog.claim import Claim
from formwright.catalog.experiments.contest import matched, parameters
from formwright.catalog.experiments.pictures import SIDE, picture_contest
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims
from formwright.models.vision.cct import cct, convolutional_stem, patch_stem
from formwright.nn.specification import ChainSpec, PartSpec


def _small(channels: int, classes: int, *, stem: PartSpec, dim: int = 128, class_token: bool = False) -> ChainSpec:
    """The smallest published size, 64 tokens."""
    return cct(
        dim=dim,
        depth=2,
        heads=2,
        mlp_ratio=1.0,
        stem=stem,
        class_token=class_token,
        image_size=SIDE,
        channels=channels,
        classes=classes,
    )


def _cct(channels: int, classes: int) -> ChainSpec:
    """Its convolutions have parameters of their own, so its tokens are narrower."""
    return matched(
        lambda dim: _small(channels, classes, stem=convolutional_stem(2, kernel=3), dim=dim),
        range(80, 129, 4),
        parameters(_small(channels, classes, stem=patch_stem(4))),
        parameters,
    )


LADDER = picture_contest(
    {
        "cct": _cct,
        "cvt": lambda channels, classes: _small(channels, classes, stem=patch_stem(4)),
        "vit-lite": lambda channels, classes: _small(channels, classes, stem=patch_stem(4), class_token=True),
    }
)


def _in_order(accuracy: Mapping[str, float]) -> bool:
    return accuracy["cct"] > accuracy["cvt"] > accuracy["vit-lite"]


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "cct_2_3x2_32": 283_723,
            "cct_4_3x2_32": 482_123,
            "cct_6_3x1_32": 3_233_803,
            "cct_6_3x2_32": 3_326_923,
            "cct_7_3x1_32": 3_760_139,
            "cct_7_3x1_32_c100": 3_783_269,
            "cct_7_3x2_32": 3_853_259,
            "cct_7_7x2_224": 4_573_735,
            "cct_14_7x2_224": 22_367_273,
            "cct_14_7x2_384": 22_513_193,
            "cvt_7_4_32": 3_716_619,
            "vit_7_4_32": 3_716_874,
        }
    ),
    *mac_claims(
        {
            "cct_2_3x2_32": 35.3e6,
            "cct_4_3x2_32": 50.0e6,
            "cct_6_3x1_32": 1.014e9,
            "cct_6_3x2_32": 254e6,
            "cct_7_3x1_32": 1.182e9,
            "cct_7_3x2_32": 289e6,
            "cvt_7_4_32": 250e6,
            "vit_7_4_32": 254e6,
        },
        size=32,
    ),
    *mac_claims({"cct_7_7x2_224": 1.605e9, "cct_14_7x2_224": 5.52e9}),
    *mac_claims({"cct_14_7x2_384": 18.58e9}, size=384),
    *output_claims("cct", "SHI-Labs/Compact-Transformers"),
    LADDER.claim("cct-above-cvt-above-vit-lite", "CCT > CVT > ViT-Lite at equal parameters", holds=_in_order),
]
