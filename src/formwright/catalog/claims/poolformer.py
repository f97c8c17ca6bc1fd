"""Claims of PoolFormer: sizes of the README and the authors' code, their outputs, and what its paper is named after."""

from __future__ import annotations

from collections.abc import Mapping

from formwright.catalog.claim import Claim
from formwright.catalog.experiments.contest import macs, matched, with_mixer
from formwright.catalog.experiments.pictures import SIDE, picture_contest
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims
from formwright.models.vision.poolformer import poolformer
from formwright.nn.specification import ChainSpec, part

#: Two models are level if their accuracies are this close.
LEVEL = 0.02


def _small(channels: int, classes: int, *, mixer: str, width: int = 16) -> ChainSpec:
    """Three stages on maps of 8, 4 and 2 pixels; attention, which knows no places, adds a table of them."""
    specification = poolformer(
        depths=(2, 2, 2),
        dims=(4 * width, 6 * width, 8 * width),
        mixers=("pooling",) * 3,
        positions=(mixer == "attention",) * 3,
        image_size=SIDE,
        channels=channels,
        classes=classes,
    )
    return with_mixer(specification, part(mixer, heads=2) if mixer == "attention" else part(mixer))


def _attention(channels: int, classes: int) -> ChainSpec:
    """As narrow as it must be to cost what pooling costs."""
    return matched(
        lambda width: _small(channels, classes, mixer="attention", width=width),
        range(8, 17),
        macs(_small(channels, classes, mixer="pooling")),
        macs,
    )


MIXERS = picture_contest(
    {
        "pooling": lambda channels, classes: _small(channels, classes, mixer="pooling"),
        "identity": lambda channels, classes: _small(channels, classes, mixer="identity"),
        "attention": _attention,
    }
)


def _beats_identity(accuracy: Mapping[str, float]) -> bool:
    return accuracy["pooling"] > accuracy["identity"]


def _level_with_attention(accuracy: Mapping[str, float]) -> bool:
    return accuracy["pooling"] >= accuracy["attention"] - LEVEL


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "poolformer_s12": 11_915_176,
            "poolformer_s24": 21_388_968,
            "poolformer_s36": 30_862_760,
            "poolformer_m36": 56_172_520,
            "poolformer_m48": 73_473_448,
            "metaformer_id_s12": 11_915_176,
            "metaformer_pppa_s12_224": 14_038_440,
            "metaformer_ppaa_s12_224": 16_535_592,
            "metaformer_pppf_s12_224": 11_919_978,
            "metaformer_ppff_s12_224": 12_150_474,
        }
    ),
    *mac_claims(
        {
            "poolformer_s12": 1.81e9,
            "poolformer_s24": 3.39e9,
            "poolformer_s36": 4.97e9,
            "poolformer_m36": 8.76e9,
            "poolformer_m48": 11.53e9,
            "metaformer_id_s12": 1.81e9,
            "metaformer_pppa_s12_224": 1.92e9,
            "metaformer_ppaa_s12_224": 2.55e9,
            "metaformer_pppf_s12_224": 1.82e9,
            "metaformer_ppff_s12_224": 1.89e9,
        }
    ),
    *output_claims("poolformer", "sail-sg/poolformer"),
    MIXERS.claim("pooling-beats-identity", "pooling is better than no mixing at all", holds=_beats_identity),
    MIXERS.claim(
        "pooling-level-with-attention",
        f"pooling is at most {100 * LEVEL:g} points below attention at equal MACs",
        holds=_level_with_attention,
    ),
]
