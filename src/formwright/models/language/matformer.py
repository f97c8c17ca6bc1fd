"""MatFormer: a Llama that is trained so that the first hidden channels of its gated MLPs are smaller models.

Built, it is a Llama; train it with :class:`~formwright.objectives.nested.NestedTraining`, and cut smaller models out of
it with :func:`formwright.compression.choices.extract`.

Source: MatFormer, arXiv 2310.07707; the authors' code, devvrit/matformer, applies the activation to the product of both
projections, by which it is no Llama any more (``channel_mixer="activated_product_glu"`` here).
"""

from __future__ import annotations

from collections.abc import Callable

from formwright.models import MODELS, derive, register_family
from formwright.models.checkpoints import LAYOUTS, register_layout
from formwright.models.language.llama import llama
from formwright.models.language.transformer import with_channel_mixer
from formwright.nn.specification import ChainSpec, part


@derive(llama, family="matformer", without=("head_dim", "window"))
def matformer(base: Callable[..., ChainSpec], *, hidden: int, channel_mixer: str = "glu") -> ChainSpec:
    """A MatFormer in Llama's shape (MatLM); other options are those of :func:`llama`.

    Args:
        hidden: hidden width of the gated MLP of the largest model.
        channel_mixer: ``glu``, or ``activated_product_glu`` as in the authors' released code.
    """
    return with_channel_mixer(base(), part(channel_mixer, hidden=hidden))


register_family(
    matformer,
    {
        "matformer_llama3_2_1b": MODELS["llama3_2_1b"].options,
        "matformer_small": {"dim": 256, "depth": 4, "heads": 4, "hidden": 1024, "vocabulary": 258, "length": 1024},
    },
    family="matformer",
    task="language-modelling",
)

for _layout in LAYOUTS["llama"]:
    register_layout("matformer", _layout)
