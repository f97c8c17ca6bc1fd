"""The plain Vision Transformer and DeiT: the baselines that papers compare with.

Patches of 16 pixels, a class token (DeiT's distilled models have a second one), a learned position table, pre-norm
blocks, and a norm before the head.

Sources: An Image is Worth 16x16 Words, arXiv 2010.11929; Training Data-Efficient Image Transformers, arXiv 2012.12877.
Equal to timm's models of the same names.
"""

from __future__ import annotations

import torch

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, fitted_head, register_layout, stacked
from formwright.models.vision.common import drop_path_rates, image_input
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part


def vit(
    *,
    name: str = "vit",
    dim: int,
    depth: int,
    heads: int,
    patch_size: int = 16,
    stem: PartSpec | None = None,
    mlp_ratio: float = 4.0,
    norm_eps: float = 1e-6,
    class_tokens: int = 1,
    drop_path: float = 0.0,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A Vision Transformer.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        patch_size: side of a patch in pixels.
        stem: another embedding instead of disjoint patches.
        norm_eps: added to the variance by all norms.
        class_tokens: 1 for a class token, 2 for DeiT's class and distillation tokens, 0 to pool all tokens.
    """
    norm = part("layer_norm", eps=norm_eps)
    attention = part("attention", heads=heads, qkv_bias=True)
    mlp = part("mlp", ratio=mlp_ratio)
    blocks = tuple(
        BlockSpec(
            (
                BranchSpec(attention, norm=norm, drop_path=rate),
                BranchSpec(mlp, norm=norm, drop_path=rate),
            )
        )
        for rate in drop_path_rates(drop_path, [depth])[0]
    )
    entry = [part("class_token", count=class_tokens)] if class_tokens else []
    entry.append(part("position_table", prefix=class_tokens))
    heads_of = {0: part("classifier", norm=norm), 2: part("distilled_classifier", norm=norm)}
    return ChainSpec(
        family="vit",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=part("patch_embedding", kernel=patch_size) if stem is None else stem,
        stages=(StageSpec(dim=dim, blocks=blocks, entry=tuple(entry)),),
        head=heads_of.get(class_tokens, part("classifier", norm=norm, pool=part("class_token_pool"))),
    )


_SIZES = {
    "tiny": {"dim": 192, "depth": 12, "heads": 3},
    "small": {"dim": 384, "depth": 12, "heads": 6},
    "base": {"dim": 768, "depth": 12, "heads": 12},
}

register_family(
    vit,
    {
        **{f"vit_{size}_patch16_224": options for size, options in _SIZES.items()},
        **{f"deit_{size}_patch16_224": options for size, options in _SIZES.items()},
        **{f"deit_{size}_distilled_patch16_224": {**options, "class_tokens": 2} for size, options in _SIZES.items()},
    },
    family="vit",
)


def _tables(state: State, model: Network) -> State:
    """Token and position tables lose their batch axis; class and distillation token become one table."""
    tokens = [state.pop(name) for name in ("cls_token", "dist_token") if name in state]
    if tokens:
        state["backbone.stages.0.entry.0.tokens"] = torch.cat(tokens, dim=1).squeeze(0)
    state[f"backbone.stages.0.entry.{1 if tokens else 0}.table"] = state.pop("pos_embed").squeeze(0)
    return state


register_layout(
    "vit",
    Layout(
        name="timm",
        marker=r"^blocks\.0\.attn\.qkv",
        renames=(
            (r"patch_embed\.proj\.(.*)", r"backbone.embed.conv.\1"),
            (r"blocks\.(\d+)\.norm1\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.norm.\2"),
            (r"blocks\.(\d+)\.attn\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.\2"),
            (r"blocks\.(\d+)\.norm2\.(.*)", r"backbone.stages.0.blocks.\1.branches.1.norm.\2"),
            (r"blocks\.(\d+)\.mlp\.(.*)", r"backbone.stages.0.blocks.\1.branches.1.part.\2"),
            (r"norm\.(.*)", r"head.norm.\1"),
            (r"head\.(.*)", r"head.linear.\1"),
            (r"head_dist\.(.*)", r"head.distilled.\1"),
        ),
        convert=_tables,
    ),
)

_VIT = r"(?:vit\.|deit\.)?"
_LAYER = _VIT + r"(?:encoder\.layer|layers)\.(\d+)\."
_BRANCH = r"backbone.stages.0.blocks.\1.branches."


def _transformers_tables(state: State, model: Network) -> State:
    return fitted_head(_tables(state, model), model)


#: The names of published checkpoints, and those that transformers 5 gives its modules.
register_layout(
    "vit",
    Layout(
        name="transformers",
        marker=r"^(vit\.|deit\.)?(encoder\.layer|layers)\.0\.layernorm_before\.weight$",
        renames=(
            (_VIT + r"embeddings\.mask_token", None),
            (_VIT + r"embeddings\.cls_token", "cls_token"),
            (_VIT + r"embeddings\.distillation_token", "dist_token"),
            (_VIT + r"embeddings\.position_embeddings", "pos_embed"),
            (_VIT + r"embeddings\.patch_embeddings\.projection\.(.*)", r"backbone.embed.conv.\1"),
            (_LAYER + r"layernorm_before\.(.*)", _BRANCH + r"0.norm.\2"),
            *stacked(_LAYER + r"attention\.attention\.{}\.(.*)", ("query", "key", "value"), _BRANCH + r"0.part.qkv.\2"),
            *stacked(_LAYER + r"attention\.{}_proj\.(.*)", "qkv", _BRANCH + r"0.part.qkv.\2"),
            (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(.*)", _BRANCH + r"0.part.proj.\2"),
            (_LAYER + r"layernorm_after\.(.*)", _BRANCH + r"1.norm.\2"),
            (_LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(.*)", _BRANCH + r"1.part.fc1.\2"),
            (_LAYER + r"(?:output\.dense|mlp\.fc2)\.(.*)", _BRANCH + r"1.part.fc2.\2"),
            (_VIT + r"layernorm\.(.*)", r"head.norm.\1"),
            (_VIT + r"pooler\.dense\.(.*)", r"head.pool.parts.1.linear.\1"),
            (r"(?:cls_)?classifier\.(.*)", r"head.linear.\1"),
            (r"distillation_classifier\.(.*)", r"head.distilled.\1"),
        ),
        convert=_transformers_tables,
    ),
)
