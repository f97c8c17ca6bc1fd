"""DiT: a Transformer on patches of latent pictures, whose norms and residual branches time and class modulate.

S, B, L and XL with patches of 2, 4 and 8, for latents of 4 channels: 32 x 32 of them for pictures of 256 pixels. The
answer has 8 channels: the noise, and where between its bounds the logarithm of each variance lies.

Source: Scalable Diffusion Models with Transformers, arXiv 2212.09748. Equal to the authors' code; diffusers'
``DiTTransformer2DModel`` has other frequencies of the time (``h - 1`` instead of ``h`` in their exponent).
"""

from __future__ import annotations

import dataclasses

from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.network import Network
from formwright.models.topologies.denoiser import DenoiserSpec
from formwright.models.vision.common import drop_path_rates, image_input
from formwright.nn.specification import BlockSpec, BranchSpec, StageSpec, part


def dit(
    *,
    name: str = "dit",
    dim: int,
    depth: int,
    heads: int,
    patch_size: int = 2,
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
    classes: int | None = 1000,
    null_class: bool = True,
    channels: int = 4,
    image_size: int | tuple[int, int] = 32,
    learned_variance: bool = True,
    end: float = 1000.0,
) -> DenoiserSpec:
    """A diffusion Transformer.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        patch_size: side of a patch.
        classes: number of classes; none for a model that is told no class.
        null_class: whether there is a label for no class, which guidance needs.
        channels: of the noisy picture, or of its latents.
        image_size: its side, or height and width.
        learned_variance: whether the answer has as many channels again for variances.
        end: the last time: the number of steps of a diffusion, or 1 for a flow.

    Raises:
        UserError: a side is no whole number of patches.
    """
    source = image_input(channels, image_size)
    if any(side % patch_size for side in source.size):
        raise UserError(
            f"A picture of {source.size[0]} x {source.size[1]} is no whole number of patches of {patch_size}; choose "
            "another image_size or patch_size."
        )
    parts = (part("attention", heads=heads, qkv_bias=True), part("mlp", ratio=mlp_ratio, activation="gelu_tanh"))
    blocks = tuple(
        BlockSpec(tuple(BranchSpec(part("modulated", part=inner), drop_path=rate) for inner in parts))
        for rate in drop_path_rates(drop_path, [depth])[0]
    )
    return DenoiserSpec(
        family="dit",
        name=name,
        task="image-generation",
        input=dataclasses.replace(source, fixed=True),
        embed=part("patch_embedding", kernel=patch_size),
        stages=(StageSpec(dim=dim, blocks=blocks, entry=(part("grid_sine_positions"),)),),
        head=part("unpatchify", patch=patch_size, norm=part("adaptive_norm")),
        out_channels=2 * channels if learned_variance else channels,
        end=end,
        classes=classes,
        null_class=null_class,
        initialization="xavier",
    )


_SIZES = {
    "s": {"dim": 384, "depth": 12, "heads": 6},
    "b": {"dim": 768, "depth": 12, "heads": 12},
    "l": {"dim": 1024, "depth": 24, "heads": 16},
    "xl": {"dim": 1152, "depth": 28, "heads": 16},
}

register_family(
    dit,
    {
        f"dit_{size}_{patch}": {**options, "patch_size": patch}
        for size, options in _SIZES.items()
        for patch in (2, 4, 8)
    },
    family="dit",
    task="image-generation",
)


def _branches(state: State, model: Network) -> State:
    """The modulation of a block is that of its two branches; the table loses its batch axis."""
    state["backbone.stages.0.entry.0.table"] = state["backbone.stages.0.entry.0.table"].squeeze(0)
    for name in [name for name in state if name.startswith("adaLN.")]:
        _, block, leaf = name.split(".")
        for branch, rows in enumerate(state.pop(name).chunk(2)):
            state[f"backbone.stages.0.blocks.{block}.branches.{branch}.part.modulation.{leaf}"] = rows
    return state


register_layout(
    "dit",
    Layout(
        name="facebookresearch/DiT",
        marker=r"^x_embedder\.proj",
        renames=(
            (r"x_embedder\.proj\.(.*)", r"backbone.embed.conv.\1"),
            (r"pos_embed", r"backbone.stages.0.entry.0.table"),
            (r"t_embedder\.mlp\.0\.(.*)", r"embed_time.fc1.\1"),
            (r"t_embedder\.mlp\.2\.(.*)", r"embed_time.fc2.\1"),
            (r"y_embedder\.embedding_table\.weight", r"embed_label.table"),
            (r"blocks\.(\d+)\.attn\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.part.\2"),
            (r"blocks\.(\d+)\.mlp\.(.*)", r"backbone.stages.0.blocks.\1.branches.1.part.part.\2"),
            (r"blocks\.(\d+)\.adaLN_modulation\.1\.(.*)", r"adaLN.\1.\2"),
            (r"final_layer\.adaLN_modulation\.1\.(.*)", r"head.norm.modulation.\1"),
            (r"final_layer\.linear\.(.*)", r"head.linear.\1"),
        ),
        convert=_branches,
    ),
)
