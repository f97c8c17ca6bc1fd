"""TEMPO: a series is taken apart into trend, season and rest, which a GPT-2 reads behind prompts, one after the other.

Univariate: the variates of a series are forecast one by one with the same weights. The three parts are learned maps of
the normalised window that add up to it; each is cut into overlapping patches and stands behind its own prompt: either
the frozen embeddings of a sentence, mapped by a trained layer, or vectors that are chosen from a pool by similarity.
The language model is frozen but for layer norms, positions and low-rank adapters. Three linear heads are summed.

Source: TEMPO: Prompt-based Generative Pre-trained Transformer for Time Series Forecasting, arXiv 2310.04948. Equal to
the authors' code. Two of its forms differ from the paper's, and are choices here: wrapping the model for the adapters
freezes layer norms and positions again, so that adapters and the biases beside them alone are trained
(``tuned="adapters"``); and the summary by which prompts of the pool are chosen is reshaped where it should be
transposed, so that it mixes patches and channels (``reshaped_summary=True``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.chain import Chain
from formwright.models.checkpoints import LAYOUTS, Layout, State, load_checkpoint, register_layout
from formwright.models.language.gpt2 import gpt2
from formwright.models.network import EARLIER_CONFIGS, NETWORKS, Network
from formwright.models.states import read_state
from formwright.nn.context import SETTLED
from formwright.nn.edits import adapt_layer
from formwright.nn.inputs import SeriesInput
from formwright.nn.layers.lora import LoRA, freeze_except
from formwright.nn.norms import LayerNorm
from formwright.nn.parts import RESIDUAL, Axis, InnerAxes, Width, sharing
from formwright.nn.prompts import PromptPool
from formwright.nn.series import ReversibleNorm
from formwright.nn.specification import NetworkSpec, register_specification

#: The three parts, in the order in which the language model reads them.
COMPONENTS = ("trend", "season", "rest")
#: "Predict the future time step given the trend", "... season" and "... residual" as GPT-2's tokeniser splits them.
_SENTENCE = (47, 17407, 262, 2003, 640, 2239, 1813, 262)
SENTENCES = ((*_SENTENCE, 5182), (*_SENTENCE, 1622), (*_SENTENCE, 29598))


@register_specification
@dataclass(frozen=True, kw_only=True)
class TempoSpec(NetworkSpec):
    """The size of a TEMPO.

    Attributes:
        length, horizon: steps of the window that it sees, and steps to forecast.
        dim, depth, heads: width, blocks and attention heads of the GPT-2.
        vocabulary, positions: sizes of its tables.
        patch, stride: steps of a patch, and between two.
        kernel: steps of the moving average that the trend is a map of.
        sentences: token ids of the prompt of each part; none of them with a pool.
        pool: how many prompts there are to choose from, or none to use sentences.
        chosen, prompt_length: how many of the pool stand before a part, and vectors of each.
        forecast_from_prompts: whether the heads see the outputs at the places of the prompts.
        decompose: whether the window is taken apart at all; without, its patches stand behind the first prompt alone.
        rank, dropout: rank of the adapters, and share of values that the language model drops in training.
        tuned: what of the language model is trained: norms, positions and adapters, or ``adapters`` alone.
        reshaped_summary: the authors' form of the summary that prompts are chosen by.
        language_weights: where the weights of the language model come from, as a person would say it.
    """

    length: int = 336
    horizon: int = 96
    dim: int = 768
    depth: int = 6
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024
    patch: int = 16
    stride: int = 8
    kernel: int = 25
    sentences: tuple[tuple[int, ...], ...] = SENTENCES
    pool: int | None = None
    chosen: int = 3
    prompt_length: int = 3
    forecast_from_prompts: bool = False
    decompose: bool = True
    rank: int = 16
    dropout: float = 0.1
    tuned: Literal["norms", "adapters"] = "norms"
    reshaped_summary: bool = False
    language_weights: str = "random: nothing was learned from text"
    family: str = "tempo"
    name: str = "tempo"
    task: str = "forecasting"
    initialization: Literal["truncated_normal", "fan_in"] = "fan_in"
    kind: Literal["tempo"] = "tempo"

    def __post_init__(self) -> None:
        if self.length < self.patch or self.kernel % 2 == 0 or self.stride < 1:
            raise UserError(
                f"A window of {self.length} steps holds patches of at most as many, and a moving average has an odd "
                f"number of steps; got patches of {self.patch} every {self.stride} and an average over {self.kernel}."
            )
        if len(self.sentences) != 3 or len({len(ids) for ids in self.sentences}) != 1:
            raise UserError("A sentence for each of trend, season and rest is expected, all of the same length.")
        tokens = self.parts * (self.prompt_tokens + self.patches)
        if tokens > self.positions:
            raise UserError(
                f"A window of {self.length} steps makes {tokens} tokens, and the language model has positions for "
                f"{self.positions}; shorten the window, or take a larger stride."
            )

    @property
    def inputs(self) -> Mapping[str, SeriesInput]:
        return {"input": SeriesInput(1, self.length)}

    @property
    def parts(self) -> int:
        return len(COMPONENTS) if self.decompose else 1

    @property
    def patches(self) -> int:
        """Patches of a part: those that fit, and one that reaches beyond the end."""
        return (self.length - self.patch) // self.stride + 2

    @property
    def prompt_tokens(self) -> int:
        return len(self.sentences[0]) if self.pool is None else self.chosen * self.prompt_length


@NETWORKS.register("tempo")
class Tempo(Network):
    """Patches of trend, season and rest behind their prompts, read by one GPT-2; any number of variates."""

    specification_type = TempoSpec
    _specification: TempoSpec

    def build(self, specification: TempoSpec) -> None:
        length, dim = specification.length, specification.dim
        self.norm = ReversibleNorm()
        if specification.decompose:
            self.trend = nn.Linear(length, length)
            self.season = nn.Sequential(nn.Linear(length, 4 * length), nn.ReLU(), nn.Linear(4 * length, length))
        self.embed = nn.ModuleList(nn.Linear(specification.patch, dim) for _ in range(specification.parts))
        if specification.pool is None:
            self.sentences = nn.ModuleList(nn.Linear(dim, dim) for _ in range(specification.parts))
        else:
            self.pool = PromptPool(
                dim,
                patches=specification.patches,
                size=specification.pool,
                chosen=specification.chosen,
                length=specification.prompt_length,
                reshaped=specification.reshaped_summary,
            )
        options = {name: getattr(specification, name) for name in ("dim", "depth", "heads", "vocabulary", "dropout")}
        self.language: Any = Chain(gpt2(length=specification.positions, **options))
        for index in range(specification.depth):
            layer = f"backbone.stages.0.blocks.{index}.branches.0.part.qkv"
            adapt_layer(self.language, layer, "lora", rank=specification.rank, dropout=specification.dropout)
        tokens = specification.patches + (specification.prompt_tokens if specification.forecast_from_prompts else 0)
        self.heads = nn.ModuleList(nn.Linear(tokens * dim, specification.horizon) for _ in range(specification.parts))
        freeze_except(self.language, self._tuned())

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        axes: dict[str, tuple[Axis | None, ...]] = {}
        for index, (embed, head) in enumerate(zip(self.embed, self.heads, strict=True)):
            tokens = Axis("residual", repeats=head.in_features // embed.out_features)  # type: ignore[operator,arg-type]
            axes |= {f"embed.{index}.weight": (RESIDUAL, None), f"heads.{index}.weight": (None, tokens)}
            if self._specification.pool is None:
                axes[f"sentences.{index}.weight"] = (RESIDUAL, RESIDUAL)
        if self._specification.pool is not None:
            axes |= {"pool.keys": (None, RESIDUAL), "pool.prompts": (None, None, RESIDUAL)}
        return axes

    def inner_axes(self) -> InnerAxes:
        return sharing("language.backbone.embed", "language.backbone.stages.0", "language.head.norm")

    def widths(self) -> list[Width]:
        mixed = self._specification.pool is not None and self._specification.reshaped_summary
        return [] if mixed else super().widths()  # the authors' summary mixes channels in their order

    def _tuned(self) -> Iterator[nn.Parameter]:
        """What of the language model is trained."""
        norms = self._specification.tuned == "norms"
        for module in self.language.modules():
            if isinstance(module, LoRA):
                yield from (module.lora_a, module.lora_b)
                if module.bias is not None:
                    yield module.bias
            elif norms and isinstance(module, LayerNorm):
                yield from module.parameters()
        if norms:
            yield from self.language.backbone.stages[0].entry.parameters()

    def decompose(self, x: Float[Tensor, "batch time"]) -> tuple[Tensor, ...]:
        """Trend, season and rest of normalised windows; they add up to them. The windows alone without decomposition.

        ``trend = W mean_25(x) + b``, ``season = MLP(x - trend)``.
        """
        if not self._specification.decompose:
            return (x,)
        side = self._specification.kernel // 2
        padded = F.pad(x[:, None], (side, side), mode="replicate")
        trend = self.trend(F.avg_pool1d(padded, self._specification.kernel, stride=1)[:, 0])
        season = self.season(x - trend)
        return trend, season, x - trend - season

    def forward(self, input: Float[Tensor, "batch time variates"]) -> Float[Tensor, "batch horizon variates"]:
        """The next ``horizon`` steps of every variate.

        Raises:
            UserError: the series has another length.
        """
        return self.forecast_and_parts(input)[0]

    def forecast_and_parts(
        self, series: Float[Tensor, "batch time variates"]
    ) -> tuple[Float[Tensor, "batch horizon variates"], Float[Tensor, "parts rows time"]]:
        """The forecast, and the parts that it was made from, one row per variate of each sample."""
        self.inputs["input"].check(series)
        batch, _, variates = series.shape
        rows, mean, deviation = self.norm(series.transpose(1, 2).flatten(0, 1))
        parts = self.decompose(rows)
        tokens = torch.cat([self._prompted(index, values) for index, values in enumerate(parts)], dim=1)
        tokens, context = self.language.backbone.stages[0](tokens, SETTLED)
        tokens = self.language.head.norm(tokens, context)
        forecast = torch.zeros_like(rows[:, :1])
        for head, of_part in zip(self.heads, tokens.chunk(len(parts), dim=1), strict=True):
            skipped = 0 if self._specification.forecast_from_prompts else self._specification.prompt_tokens
            forecast = forecast + head(of_part[:, skipped:].flatten(1))
        forecast = self.norm.back(forecast, mean, deviation)
        return forecast.view(batch, variates, forecast.shape[1]).transpose(1, 2), torch.stack(parts)

    def _prompted(self, index: int, values: Float[Tensor, "rows time"]) -> Float[Tensor, "rows tokens dim"]:
        """The patches of a part behind its prompt."""
        specification = self._specification
        padded = F.pad(values[:, None], (0, specification.stride), mode="replicate")[:, 0]
        tokens = self.embed[index](padded.unfold(1, specification.patch, specification.stride))
        if specification.pool is not None:
            return torch.cat([self.pool(tokens), tokens], dim=1)
        words = self.language.backbone.embed(torch.tensor([specification.sentences[index]], device=values.device))[0]
        return torch.cat([self.sentences[index](words).expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def load_language_model(self, source: str | Path | Mapping[str, Tensor]) -> None:
        """Take the weights of a GPT-2 in the layout of transformers (a file, a folder or a state); the first blocks.

        Raises:
            UserError: they are of another width, or there are fewer blocks.
        """
        state = dict(source) if isinstance(source, Mapping) else read_state(source)
        own = self.language.state_dict()
        plain = Chain(self.language.specification).to(next(iter(own.values())))
        load_checkpoint(plain, _first_blocks(state, self._specification.depth))
        self.language.load_state_dict({**own, **plain.state_dict()})
        whose = "a state" if isinstance(source, Mapping) else str(source)
        self._specification = dataclasses.replace(self._specification, language_weights=whose)


def _first_blocks(state: Mapping[str, Tensor], depth: int) -> State:
    block = re.compile(r"(?:transformer\.)?h\.(\d+)\.")
    return {name: x for name, x in state.items() if not ((match := block.match(name)) and int(match[1]) >= depth)}


register_family(
    TempoSpec,
    {
        "tempo": {},
        "tempo_pool": {"pool": 30, "reshaped_summary": True},
    },
    family="tempo",
    task="forecasting",
)

_NAMES = {"trend": "0", "season": "1", "noise": "2"}
_GPT = r"gpt2_trend\.base_model\.model\."
_ATTENTION = _GPT + r"h\.(\d+)\.attn\."
_OURS = r"language.backbone.stages.0.blocks.\1.branches."


def _join(state: State, model: Network) -> State:
    """Keys and values of the pool lie in tensors of their own; GPT-2 keeps its dense weights as ``(in, out)``."""
    gpt = {name.removeprefix("gpt2."): state.pop(name) for name in list(state) if name.startswith("gpt2.")}
    gpt = _first_blocks(gpt, model.specification.depth)
    for name in list(state):
        if name.endswith(("qkv.weight", "qkv.bias")):
            block, leaf = re.search(r"blocks\.(\d+)", name), name.rpartition(".")[2]
            assert block is not None
            gpt[f"h.{block[1]}.attn.c_attn.{leaf}"] = state.pop(name)
    (layout,) = (layout for layout in LAYOUTS["gpt2"] if layout.name == "transformers")
    state |= {f"language.{name}": tensor for name, tensor in layout.apply(gpt, model.get_submodule("language")).items()}
    if model.specification.pool is None:
        return state
    state = {name: tensor for name, tensor in state.items() if not name.startswith("sentences.")}
    for kind, ours in (("key", "keys"), ("value", "prompts")):
        names = [f"prompt_{kind}_dict.prompt_{kind}_{index}" for index in range(model.specification.pool)]
        state[f"pool.{ours}"] = torch.stack([state.pop(name) for name in names])
    return state


register_layout(
    "tempo",
    Layout(
        name="DC-research/TEMPO",
        marker=r"^gpt2_trend\.",
        renames=(
            (r"(mul_season|map_resid|rev_in_season|rev_in_noise)\..*", None),  # never used
            (_ATTENTION + r"c_attn\.base_layer\.(.*)", _OURS + r"0.part.qkv.\2"),
            (_ATTENTION + r"c_attn\.lora_A\.default\.weight", _OURS + r"0.part.qkv.lora_a"),
            (_ATTENTION + r"c_attn\.lora_B\.default\.weight", _OURS + r"0.part.qkv.lora_b"),
            (_GPT + r"(.*)", r"gpt2.\1"),
            (r"rev_in_trend\.affine_(.*)", r"norm.\1"),
            (r"map_trend\.(.*)", r"trend.\1"),
            (r"map_season\.(.*)", r"season.\1"),
            (r"in_layer_(trend|season|noise)\.(.*)", lambda match: f"embed.{_NAMES[match[1]]}.{match[2]}"),
            (r"out_layer_(trend|season|noise)\.(.*)", lambda match: f"heads.{_NAMES[match[1]]}.{match[2]}"),
            (r"prompt_layer_(trend|season|noise)\.(.*)", lambda match: f"sentences.{_NAMES[match[1]]}.{match[2]}"),
            (r"summary_map\.(.*)", r"pool.summary.\1"),
        ),
        convert=_join,
    ),
)


@EARLIER_CONFIGS.register("tempo")
def _earlier(config: Mapping[str, Any]) -> dict[str, Any]:
    """What was written before TEMPO was a network."""
    return {"kind": "tempo", "language_weights": config["language_weights"], **config["tempo"]}
