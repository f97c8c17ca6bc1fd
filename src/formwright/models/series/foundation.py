"""Foundation models of series: one Transformer for any univariate series, encoder-only or decoder-only, in many sizes.

A series is cut into patches of 32 points and brought to mean zero and variance one. The encoder is shown patches that
are missing (a learned vector stands for them) and says what was there; the decoder says what the next patch is. Both
answer with a mixture of four Student's t distributions a point. Several series may share a row: no token sees another
series', and each has its own statistics.

Sources: Towards Neural Scaling Laws for Time Series Foundation Models, arXiv 2410.12360; its parts are those of Moirai,
arXiv 2402.02592. Equal to the authors' code. There, the statistics of the decoder are those of all points that are not
to be forecast, the ones after a patch included, so that its answers in training know the future; that is
``statistics="shown"``. With ``"past"``, the default of a decoder, those of a patch are of the points up to its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.network import EARLIER_CONFIGS, NETWORKS, Network
from formwright.nn.context import Context
from formwright.nn.frame import Block
from formwright.nn.inputs import ArrayInput
from formwright.nn.packed_series import Patches, cut_into_patches, series_statistics
from formwright.nn.parts import RESIDUAL, Axis, InnerAxes, build_part, sharing
from formwright.nn.specification import BlockSpec, BranchSpec, NetworkSpec, part, register_specification
from formwright.nn.student_mixture import StudentMixture

_NORM = part("rms_norm", eps=1e-5)


@register_specification
@dataclass(frozen=True, kw_only=True)
class FoundationSpec(NetworkSpec):
    """The size of a foundation model.

    Attributes:
        dim, depth, heads: channels of a token, number of blocks, attention heads.
        causal: whether it is a decoder, which sees the past alone, or an encoder.
        patch, components: points of a patch, and distributions of a mixture.
        statistics: which points are brought to mean zero and variance one: all that are ``shown``, or, patch by patch,
            those of the ``past``.
        length: patches of an example row; any number may come.
    """

    dim: int
    depth: int
    heads: int = 1
    causal: bool = False
    patch: int = 32
    components: int = 4
    statistics: Literal["shown", "past"] = "shown"
    length: int = 16
    family: str = "series_foundation"
    name: str = "series_foundation"
    task: str = "forecasting"
    initialization: Literal["truncated_normal", "fan_in"] = "fan_in"
    kind: Literal["series_foundation"] = "series_foundation"

    def __post_init__(self) -> None:
        if min(self.dim, self.depth, self.heads, self.patch, self.components) < 1 or self.dim % (4 * self.heads):
            raise UserError(
                f"A foundation model has positive sizes and heads of a multiple of 4 channels (half of them turn, "
                f"in pairs); got {self.dim} channels, {self.heads} heads, {self.depth} blocks."
            )

    @property
    def hidden(self) -> int:
        """Hidden width of the gated MLP: two thirds of ``4 dim``, up to a multiple of 8."""
        return (int(8 * self.dim / 3) + 7) // 8 * 8

    @property
    def inputs(self) -> Mapping[str, ArrayInput]:
        places, points = ((self.length,), ("places",)), ((self.length, self.patch), ("places",))
        return {
            "values": ArrayInput(points[0], axes=points[1]),
            "observed": ArrayInput(points[0], "flag", axes=points[1]),
            "predicted": ArrayInput(places[0], "flag", axes=places[1]),
            "series": ArrayInput(places[0], "whole", below=3, axes=places[1]),
            "time": ArrayInput(places[0], "whole", below=self.length, axes=places[1]),
        }


#: The authors' ladder of encoders, by their number of parameters without embedding and head.
SIZES: dict[str, FoundationSpec] = {
    name: FoundationSpec(name=f"series_encoder_{name}", dim=dim, depth=depth, heads=max(1, dim // 64))
    for name, dim, depth in (
        ("1k", 8, 1),
        ("10k", 24, 1),
        ("100k", 64, 2),
        ("300k", 64, 6),
        ("1m", 192, 4),
        ("3m", 256, 6),
        ("10m", 384, 8),
        ("30m", 512, 12),
        ("100m", 768, 18),
        ("300m", 1024, 24),
        ("1b", 1536, 36),
    )
}


def decoder(specification: FoundationSpec) -> FoundationSpec:
    """The decoder of the same size."""
    name = specification.name.replace("encoder", "decoder")
    return dataclasses.replace(specification, name=name, causal=True, statistics="past")


@NETWORKS.register("series_foundation")
class FoundationModel(Network):
    """Patches to a distribution of every point: of the same patch (encoder), or of the next one (decoder)."""

    specification_type = FoundationSpec
    offers = frozenset({"positions"})
    _specification: FoundationSpec

    def build(self, specification: FoundationSpec) -> None:
        attention = {"heads": specification.heads, "causal": specification.causal, "bias": False}
        mixer = part("packed_attention", rotary={"fraction": 0.5}, qk_norm=_NORM, **attention)
        mlp = part("glu", hidden=specification.hidden)
        block = BlockSpec((BranchSpec(mixer, norm=_NORM), BranchSpec(mlp, norm=_NORM)))
        dim = specification.dim
        self.embed = nn.Linear(specification.patch, dim)
        self.mask_token = None if specification.causal else nn.Parameter(torch.randn(dim))
        self.blocks = nn.ModuleList(Block(block, dim, (512,)) for _ in range(specification.depth))
        self.norm = build_part(_NORM, dim)
        self.head = nn.Linear(dim, specification.patch * 4 * specification.components)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"embed.weight": (RESIDUAL, None), "mask_token": (RESIDUAL,), "head.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", *(f"blocks.{index}" for index in range(len(self.blocks))))

    def core_parameters(self) -> int:
        """Parameters of blocks and last norm, which the authors count as the size."""
        return sum(p.numel() for module in (self.blocks, self.norm) for p in module.parameters())

    def forward(
        self, values: Tensor, observed: Tensor, predicted: Tensor, series: Tensor, time: Tensor
    ) -> dict[str, Tensor]:
        """The fields of a :class:`~formwright.nn.student_mixture.StudentMixture` for each point, by name.

        Takes the fields of :class:`~formwright.nn.packed_series.Patches`; :meth:`distribution` takes and gives objects.

        Raises:
            UserError: the patches are of another size.
        """
        patches = Patches(values, observed, predicted, series, time)
        for name, given in self.inputs.items():
            given.check(getattr(patches, name))
        location, scale = series_statistics(patches, past=self._specification.statistics == "past")
        tokens = self.embed((values - location) / scale)
        if self.mask_token is not None:
            tokens = torch.where(predicted[..., None], self.mask_token, tokens)
        context = self.settle(Context(positions=torch.stack([time, series], dim=-1).to(tokens.dtype)))
        for block in self.blocks:
            tokens, context = block(tokens, context)
        raw = self.head(self.norm(tokens)).unflatten(-1, (self._specification.patch, 4, self._specification.components))
        return StudentMixture.of(raw, location, scale)._asdict()

    def distribution(self, patches: Patches) -> StudentMixture:
        """A mixture for each point: logits and the rest are ``(batch, places, patch, components)``."""
        return StudentMixture(**self(**patches._asdict()))

    @torch.inference_mode()
    def forecast(
        self, series: Float[Tensor, "batch time"], horizon: int, *, samples: int = 0, seed: int = 0
    ) -> Float[Tensor, "batch horizon"]:
        """The expected next ``horizon`` points, or with ``samples`` the median of so many draws.

        The encoder forecasts all at once, the decoder patch by patch, each from its own forecasts.
        """
        patch = self._specification.patch
        generator = torch.Generator(series.device).manual_seed(seed)

        def point(mixture: StudentMixture, places: slice) -> Tensor:
            value = mixture.sample(samples, generator).median(0).values if samples else mixture.mean
            return value[:, places].flatten(1)

        if not self._specification.causal:
            missing = -(-horizon // patch)
            future = series.new_full((series.shape[0], missing * patch), torch.nan)
            patches = cut_into_patches(torch.cat([series, future], dim=1), patch, forecast=missing)
            return point(self.distribution(patches), slice(-missing, None))[:, :horizon]
        known = series
        while known.shape[1] < series.shape[1] + horizon:
            known = torch.cat([known, point(self.distribution(cut_into_patches(known, patch)), slice(-1, None))], dim=1)
        return known[:, series.shape[1] : series.shape[1] + horizon]


register_family(
    FoundationSpec,
    {
        size.name: {name: getattr(size, name) for name in ("dim", "depth", "heads", "causal", "statistics")}
        for encoder in SIZES.values()
        for size in (encoder, decoder(encoder))
    },
    family="series_foundation",
    task="forecasting",
)

_PARTS = ("df", "loc", "scale")


def _from_authors(state: State, model: Network) -> State:
    """Queries, keys and values become one matrix, their turned channels go from pairs to halves, heads become one."""
    config = model.specification
    head_dim, turned = config.dim // config.heads, config.dim // config.heads // 2
    channels = torch.arange(head_dim)
    order = torch.cat([channels[:turned:2], channels[1:turned:2], channels[turned:]])
    rows = (torch.arange(config.heads)[:, None] * head_dim + order).flatten()
    for index in range(config.depth):
        own = f"blocks.{index}.branches.0.part"
        q, k, v = (state.pop(f"{own}.{name}_proj.weight") for name in ("q", "k", "v"))
        state[f"{own}.qkv.weight"] = torch.cat([q[rows], k[rows], v])
        for name in ("q_norm", "k_norm"):
            state[f"{own}.{name}.weight"] = state[f"{own}.{name}.weight"][order]
    if "mask_token" in state:
        state["mask_token"] = state["mask_token"][0]
    for leaf in ("weight", "bias"):
        # The authors' rows are (component, point) for the logits, and points for the rest of each component.
        rest = [
            torch.stack([state.pop(f"components.{each}.{name}.{leaf}") for each in range(config.components)])
            for name in _PARTS
        ]
        logits = torch.stack(state.pop(f"weights_logits.{leaf}").chunk(config.components))
        whole = torch.stack([logits, *rest])  # (four, components, points, ...)
        state[f"head.{leaf}"] = whole.movedim(2, 0).flatten(0, 2)
    return state


_BLOCK = r"blocks.\1.branches"

register_layout(
    "series_foundation",
    Layout(
        name="Qingrenn/TSFM-ScalingLaws",
        marker=r"^encoder\.layers\.",
        renames=(
            (r"mask_encoding\.weight", "mask_token"),
            (r"in_proj\.(.*)", r"embed.\1"),
            (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.*)", _BLOCK + r".0.part.proj.\2"),
            (r"encoder\.layers\.(\d+)\.self_attn\.(.*)", _BLOCK + r".0.part.\2"),
            (r"encoder\.layers\.(\d+)\.norm1\.(.*)", _BLOCK + r".0.norm.\2"),
            (r"encoder\.layers\.(\d+)\.norm2\.(.*)", _BLOCK + r".1.norm.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc_gate\.(.*)", _BLOCK + r".1.part.gate.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc1\.(.*)", _BLOCK + r".1.part.up.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc2\.(.*)", _BLOCK + r".1.part.down.\2"),
            (r"encoder\.norm\.(.*)", r"norm.\1"),
            (r"param_proj\.proj\.(.*)", r"\1"),
        ),
        convert=_from_authors,
    ),
)


@EARLIER_CONFIGS.register("foundation")
def _earlier(config: Mapping[str, Any]) -> dict[str, Any]:
    """What was written before the foundation models were networks."""
    return {"kind": "series_foundation", **config["foundation"]}
