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
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.files import read_json, write_json, write_safetensors
from formwright.models.checkpoints import Layout, State
from formwright.models.network import CONFIG_FILE, WEIGHTS_FILE, load_state, read_safetensors
from formwright.nn.context import Context
from formwright.nn.frame import Block
from formwright.nn.part import build_part
from formwright.nn.specification import BlockSpec, BranchSpec, part
from formwright.nn.student_mixture import StudentMixture

#: Added to the variance of a series, so that a constant one stays finite.
_EPSILON = 1e-5
_NORM = part("rms_norm", eps=1e-5)


@dataclass(frozen=True)
class FoundationConfig:
    """The size of a foundation model.

    Attributes:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        causal: whether it is a decoder, which sees the past alone, or an encoder.
        patch: points of a patch.
        components: distributions of a mixture.
        statistics: which points are brought to mean zero and variance one: all that are ``shown``, or, patch by patch,
            those of the ``past``.
    """

    dim: int
    depth: int
    heads: int = 1
    causal: bool = False
    patch: int = 32
    components: int = 4
    statistics: Literal["shown", "past"] = "shown"

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


#: The authors' ladder of encoders, by their number of parameters without embedding and head.
SIZES: dict[str, FoundationConfig] = {
    name: FoundationConfig(dim=dim, depth=depth, heads=max(1, dim // 64))
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


def decoder(config: FoundationConfig) -> FoundationConfig:
    """The decoder of the same size."""
    return dataclasses.replace(config, causal=True, statistics="past")


class Patches(NamedTuple):
    """Rows of patches, of one series or of several that are packed.

    Attributes:
        values: ``(batch, places, patch)``, zero where nothing was observed.
        observed: true for points that were.
        predicted: ``(batch, places)``, true for patches that are to be forecast; their values are not shown.
        series: which series of the row a patch is of, from 1; 0 is padding.
        time: place of a patch in its own series, from 0.
    """

    values: Float[Tensor, "batch places patch"]
    observed: Bool[Tensor, "batch places patch"]
    predicted: Bool[Tensor, "batch places"]
    series: Int[Tensor, "batch places"]
    time: Int[Tensor, "batch places"]


def cut_into_patches(series: Float[Tensor, "batch time"], patch: int = 32, *, forecast: int = 0) -> Patches:
    """A row a series: what is missing (not a number) is not observed, and a first patch that is not full is padded.

    The last ``forecast`` patches are marked as those to predict.

    Raises:
        UserError: a series is shorter than what is to be forecast.
    """
    batch, length = series.shape
    short = -length % patch
    series = torch.cat([series.new_full((batch, short), torch.nan), series], dim=1).view(batch, -1, patch)
    places = series.shape[1]
    if not 0 <= forecast < places:
        raise UserError(f"Of {places} patches, {forecast} cannot be forecast: at least one is to be seen.")
    predicted = torch.zeros(batch, places, dtype=torch.bool, device=series.device)
    predicted[:, places - forecast :] = True
    time = torch.arange(places, device=series.device).expand(batch, -1)
    observed = series.isfinite()
    return Patches(torch.where(observed, series, 0.0), observed, predicted, torch.ones_like(time), time)


class FoundationModel(nn.Module):
    """Patches to a distribution of every point: of the same patch (encoder), or of the next one (decoder)."""

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        self.config = config
        mixer = part(
            "packed_attention",
            heads=config.heads,
            causal=config.causal,
            rotary={"fraction": 0.5},
            qk_norm=_NORM,
            bias=False,
        )
        block = BlockSpec((BranchSpec(mixer, norm=_NORM), BranchSpec(part("glu", hidden=config.hidden), norm=_NORM)))
        self.embed = nn.Linear(config.patch, config.dim)
        self.mask_token = None if config.causal else nn.Parameter(torch.randn(config.dim))
        self.blocks = nn.ModuleList(Block(block, config.dim, (512,)) for _ in range(config.depth))
        self.norm = build_part(_NORM, config.dim)
        self.head = nn.Linear(config.dim, config.patch * 4 * config.components)

    def core_parameters(self) -> int:
        """Parameters of blocks and last norm, which the authors count as the size."""
        return sum(p.numel() for module in (self.blocks, self.norm) for p in module.parameters())

    def forward(self, patches: Patches) -> StudentMixture:
        """A mixture for each point: logits and the rest are ``(batch, places, patch, components)``.

        Raises:
            UserError: the patches are of another size.
        """
        config = self.config
        if patches.values.ndim != 3 or patches.values.shape[-1] != config.patch:
            raise UserError(
                f"Expected patches (batch, places, {config.patch}), got {tuple(patches.values.shape)}; "
                "cut_into_patches makes them of series."
            )
        location, scale = self.statistics(patches)
        tokens = self.embed((patches.values - location) / scale)
        if self.mask_token is not None:
            tokens = torch.where(patches.predicted[..., None], self.mask_token, tokens)
        positions = torch.stack([patches.time, patches.series], dim=-1).to(tokens.dtype)
        context = Context(positions=positions)
        for block in self.blocks:
            tokens, context = block(tokens, context)
        raw = self.head(self.norm(tokens)).unflatten(-1, (config.patch, 4, config.components))
        return StudentMixture.of(raw, location, scale)

    def statistics(self, patches: Patches) -> tuple[Float[Tensor, "batch places 1"], Float[Tensor, "batch places 1"]]:
        """Mean and standard deviation by which every patch is normalised: of its series' points that it may know."""
        shown = patches.observed & ~patches.predicted[..., None]
        related = patches.series[:, :, None] == patches.series[:, None, :]
        if self.config.statistics == "past":
            related = related.tril()
        weights = related.double()
        values = torch.where(shown, patches.values, 0.0).double()
        count = weights @ shown.sum(-1, keepdim=True).double()
        location = weights @ values.sum(-1, keepdim=True) / count.clamp(min=1)
        # Squares around a mean of the whole row, which every place shares, lose nothing to cancellation.
        centre = values.sum((1, 2), keepdim=True) / shown.sum((1, 2), keepdim=True).clamp(min=1)
        squares = weights @ torch.where(shown, (values - centre) ** 2, 0.0).sum(-1, keepdim=True)
        squares = (squares - count * (location - centre) ** 2).clamp(min=0)
        scale = (squares / (count - 1).clamp(min=1) + _EPSILON).sqrt()
        padding = patches.series[..., None] == 0
        dtype = patches.values.dtype
        return location.masked_fill(padding, 0.0).to(dtype), scale.masked_fill(padding, 1.0).to(dtype)

    @torch.inference_mode()
    def forecast(
        self, series: Float[Tensor, "batch time"], horizon: int, *, samples: int = 0, seed: int = 0
    ) -> Float[Tensor, "batch horizon"]:
        """The expected next ``horizon`` points, or with ``samples`` the median of so many draws.

        The encoder forecasts all at once, the decoder patch by patch, each from its own forecasts.
        """
        patch = self.config.patch
        generator = torch.Generator(series.device).manual_seed(seed)

        def point(mixture: StudentMixture, places: slice) -> Tensor:
            value = mixture.sample(samples, generator).median(0).values if samples else mixture.mean
            return value[:, places].flatten(1)

        if not self.config.causal:
            missing = -(-horizon // patch)
            future = series.new_full((len(series), missing * patch), torch.nan)
            patches = cut_into_patches(torch.cat([series, future], dim=1), patch, forecast=missing)
            return point(self(patches), slice(-missing, None))[:, :horizon]
        known = series
        while known.shape[1] < series.shape[1] + horizon:
            known = torch.cat([known, point(self(cut_into_patches(known, patch)), slice(-1, None))], dim=1)
        return known[:, series.shape[1] : series.shape[1] + horizon]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json``, each whole or not at all."""
        write_safetensors(Path(folder) / WEIGHTS_FILE, self.state_dict(), {"format": "pt"})
        write_json(Path(folder) / CONFIG_FILE, {"foundation": dataclasses.asdict(self.config)})

    @staticmethod
    def from_pretrained(folder: str | Path) -> FoundationModel:
        """Load what :meth:`save_pretrained` wrote, in eval mode.

        Raises:
            UserError: the folder does not hold a whole foundation model.
        """
        content = read_json(Path(folder) / CONFIG_FILE)
        try:
            config = TypeAdapter(FoundationConfig).validate_python(content["foundation"])
        except (KeyError, TypeError, ValidationError):
            raise UserError(f"{Path(folder) / CONFIG_FILE} does not describe a foundation model.") from None
        model = FoundationModel(config)
        load_state(model, read_safetensors(Path(folder) / WEIGHTS_FILE))
        return model.eval()


_PARTS = ("df", "loc", "scale")


def _from_authors(state: State, config: FoundationConfig) -> State:
    """Queries, keys and values become one matrix, their turned channels go from pairs to halves, heads become one."""
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


def load_authors_weights(model: FoundationModel, state: Mapping[str, Tensor]) -> None:
    """Load weights of the authors' ``BasicModule``, strictly.

    Raises:
        UserError: they are of another model.
    """
    block = r"blocks.\1.branches"
    layout = Layout(
        name="Qingrenn/TSFM-ScalingLaws",
        marker=r"^encoder\.layers\.",
        renames=(
            (r"mask_encoding\.weight", "mask_token"),
            (r"in_proj\.(.*)", r"embed.\1"),
            (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.*)", block + r".0.part.proj.\2"),
            (r"encoder\.layers\.(\d+)\.self_attn\.(.*)", block + r".0.part.\2"),
            (r"encoder\.layers\.(\d+)\.norm1\.(.*)", block + r".0.norm.\2"),
            (r"encoder\.layers\.(\d+)\.norm2\.(.*)", block + r".1.norm.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc_gate\.(.*)", block + r".1.part.gate.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc1\.(.*)", block + r".1.part.up.\2"),
            (r"encoder\.layers\.(\d+)\.ffn\.fc2\.(.*)", block + r".1.part.down.\2"),
            (r"encoder\.norm\.(.*)", r"norm.\1"),
            (r"param_proj\.proj\.(.*)", r"\1"),
        ),
    )
    renamed = {str(layout.rename(name)): tensor for name, tensor in state.items()}
    try:
        load_state(model, _from_authors(renamed, model.config))
    except (KeyError, IndexError) as problem:
        raise UserError(f"These weights belong to another model ({problem}).") from None
