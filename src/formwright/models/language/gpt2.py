"""GPT-2: a decoder with learned positions, layer norms before its branches and a GELU MLP.

Source: Language Models are Unsupervised Multitask Learners (OpenAI, 2019). Equal to transformers' models of the same
names, whose checkpoints load.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from formwright.models import Network, derive, register_family
from formwright.models.checkpoints import Layout, State, drop_tied_scores, register_layout
from formwright.models.language.transformer import DECIDED, decoder, without_score_bias
from formwright.nn.specification import ChainSpec, part


@derive(decoder, family="gpt2", without=DECIDED, dropout=0.0, vocabulary=50257)
def gpt2(
    base: Callable[..., ChainSpec],
    *,
    dim: int,
    hidden: int | None = None,
    activation: str = "gelu_tanh",
    norm_eps: float = 1e-5,
) -> ChainSpec:
    """A GPT-2; other options are those of :func:`decoder`.

    Args:
        hidden: hidden width of the MLP; four times ``dim`` if unset.
        norm_eps: added to the variance by all norms.
    """
    return without_score_bias(
        base(
            mixers=part("attention", qkv_bias=True),
            channel_mixer=part("mlp", hidden=hidden or 4 * dim, activation=activation),
            norm=part("layer_norm", eps=norm_eps),
            rotary=None,
            positions=part("learned_positions"),
        )
    )


register_family(
    gpt2,
    {
        "distilgpt2": {"dim": 768, "depth": 6, "heads": 12},
        "gpt2": {"dim": 768, "depth": 12, "heads": 12},
        "gpt2_medium": {"dim": 1024, "depth": 24, "heads": 16},
        "gpt2_large": {"dim": 1280, "depth": 36, "heads": 20},
        "gpt2_xl": {"dim": 1600, "depth": 48, "heads": 25},
    },
    family="gpt2",
    task="language-modelling",
)

_TRANSPOSED = re.compile(r"\.(qkv|proj|fc1|fc2)\.weight$")


def _transpose(state: State, model: Network) -> State:
    """GPT-2 keeps its dense weights as ``(in, out)``."""
    turned = {name: tensor.T if _TRANSPOSED.search(name) else tensor for name, tensor in state.items()}
    return drop_tied_scores(turned, model)


_BLOCK = r"(?:transformer\.)?h\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "gpt2",
    Layout(
        name="transformers",
        marker=r"^(transformer\.)?h\.0\.attn\.c_attn\.weight$",
        renames=(
            (_BLOCK + r"attn\.(masked_)?bias", None),
            (_BLOCK + r"ln_1\.(.*)", _OURS + r"0.norm.\2"),
            (_BLOCK + r"attn\.c_attn\.(.*)", _OURS + r"0.part.qkv.\2"),
            (_BLOCK + r"attn\.c_proj\.(.*)", _OURS + r"0.part.proj.\2"),
            (_BLOCK + r"ln_2\.(.*)", _OURS + r"1.norm.\2"),
            (_BLOCK + r"mlp\.c_fc\.(.*)", _OURS + r"1.part.fc1.\2"),
            (_BLOCK + r"mlp\.c_proj\.(.*)", _OURS + r"1.part.fc2.\2"),
            (r"(?:transformer\.)?wte\.weight", r"backbone.embed.weight"),
            (r"(?:transformer\.)?wpe\.weight", r"backbone.stages.0.entry.0.table"),
            (r"(?:transformer\.)?ln_f\.(.*)", r"head.norm.\1"),
            (r"(?:lm_head|score)\.weight", r"head.linear.weight"),
        ),
        convert=_transpose,
    ),
)
