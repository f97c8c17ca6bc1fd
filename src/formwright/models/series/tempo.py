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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.files import read_json, write_json, write_safetensors
from formwright.models import Chain, create_model, load_checkpoint
from formwright.models.checkpoints import Layout, State, read_state
from formwright.models.language.gpt2 import gpt2
from formwright.models.network import CONFIG_FILE, WEIGHTS_FILE, load_state, read_safetensors
from formwright.nn.context import EMPTY
from formwright.nn.layers import LoRA, freeze_except
from formwright.nn.norms import LayerNorm

#: The three parts, in the order in which the language model reads them.
COMPONENTS = ("trend", "season", "rest")
#: "Predict the future time step given the trend", "... season" and "... residual" as GPT-2's tokeniser splits them.
_SENTENCE = (47, 17407, 262, 2003, 640, 2239, 1813, 262)
SENTENCES = ((*_SENTENCE, 5182), (*_SENTENCE, 1622), (*_SENTENCE, 29598))


@dataclass(frozen=True)
class TempoConfig:
    """The size of a TEMPO.

    Attributes:
        length: steps of the window that is looked back on.
        horizon: steps to forecast.
        dim, depth, heads: width, blocks and attention heads of the GPT-2.
        vocabulary, positions: sizes of its tables.
        patch, stride: steps of a patch, and between two.
        kernel: steps of the moving average that the trend is a map of.
        sentences: token ids of the prompt of each part; none of them with a pool.
        pool: how many prompts there are to choose from, or none to use sentences.
        chosen: how many of the pool stand before a part.
        prompt_length: vectors of one prompt of the pool.
        forecast_from_prompts: whether the heads see the outputs at the places of the prompts.
        decompose: whether the window is taken apart at all; without, its patches stand behind the first prompt alone.
        rank: rank of the adapters.
        dropout: share of values that the language model and the adapters drop in training.
        tuned: what of the language model is trained: norms, positions and adapters, or ``adapters`` alone.
        reshaped_summary: the authors' form of the summary that prompts are chosen by.
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
    def parts(self) -> int:
        return len(COMPONENTS) if self.decompose else 1

    @property
    def patches(self) -> int:
        """Patches of a part: those that fit, and one that reaches beyond the end."""
        return (self.length - self.patch) // self.stride + 2

    @property
    def prompt_tokens(self) -> int:
        return len(self.sentences[0]) if self.pool is None else self.chosen * self.prompt_length


class ReversibleNorm(nn.Module):
    """``(x - mean) / deviation * weight + bias`` of each window, and back. Source: RevIN (Kim et al., ICLR 2022)."""

    def __init__(self, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "batch time"]) -> tuple[Tensor, Tensor, Tensor]:
        """The normalised windows, and the mean and deviation of each, ``(batch, 1)``, which are constants."""
        mean = x.mean(1, keepdim=True).detach()
        deviation = (x.var(1, keepdim=True, unbiased=False) + self.eps).sqrt().detach()
        return (x - mean) / deviation * self.weight + self.bias, mean, deviation

    def back(self, y: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        return (y - self.bias) / (self.weight + self.eps**2) * deviation + mean


class PromptPool(nn.Module):
    """Prompts with keys; those whose keys are most similar to a summary of the patches stand before them."""

    def __init__(self, config: TempoConfig) -> None:
        super().__init__()
        assert config.pool is not None
        if not 1 <= config.chosen <= config.pool:
            raise UserError(f"Of a pool of {config.pool} prompts, {config.chosen} cannot be chosen.")
        self.chosen, self.reshaped = config.chosen, config.reshaped_summary
        self.keys = nn.Parameter(torch.randn(config.pool, config.dim))
        self.prompts = nn.Parameter(torch.randn(config.pool, config.prompt_length, config.dim))
        self.summary = nn.Linear(config.patches, 1)

    def forward(self, tokens: Float[Tensor, "batch patches dim"]) -> Float[Tensor, "batch prompts dim"]:
        """The prompts of each row, the most similar first."""
        by_channel = tokens.reshape(len(tokens), -1, tokens.shape[1]) if self.reshaped else tokens.transpose(1, 2)
        query = F.normalize(self.summary(by_channel)[..., 0], dim=1, eps=1e-6)
        similarity = query @ F.normalize(self.keys, dim=1, eps=1e-6).T
        chosen = similarity.topk(self.chosen, dim=1).indices
        return self.prompts[chosen].flatten(1, 2)


class Tempo(nn.Module):
    """The model of this file; :func:`tempo` builds one, with or without pretrained weights."""

    def __init__(self, config: TempoConfig) -> None:
        super().__init__()
        self.config = config
        #: where the weights of the language model come from, as a person would say it
        self.language_weights = "random: nothing was learned from text"
        length, dim = config.length, config.dim
        self.norm = ReversibleNorm()
        if config.decompose:
            self.trend = nn.Linear(length, length)
            self.season = nn.Sequential(nn.Linear(length, 4 * length), nn.ReLU(), nn.Linear(4 * length, length))
        self.embed = nn.ModuleList(nn.Linear(config.patch, dim) for _ in range(config.parts))
        if config.pool is None:
            self.sentences = nn.ModuleList(nn.Linear(dim, dim) for _ in range(config.parts))
        else:
            self.pool = PromptPool(config)
        self.language: Any = Chain(
            gpt2(
                dim=dim,
                depth=config.depth,
                heads=config.heads,
                vocabulary=config.vocabulary,
                length=config.positions,
                dropout=config.dropout,
            )
        )
        self._adapt()
        tokens = config.patches + (config.prompt_tokens if config.forecast_from_prompts else 0)
        self.heads = nn.ModuleList(nn.Linear(tokens * dim, config.horizon) for _ in range(config.parts))
        freeze_except(self.language, self._tuned())

    def _adapt(self) -> None:
        """Put adapters beside the layers of queries, keys and values."""
        for block in self.language.backbone.stages[0].blocks:
            attention = block.branches[0].part
            attention.qkv = LoRA(attention.qkv, rank=self.config.rank, dropout=self.config.dropout)

    def _tuned(self) -> Iterator[nn.Parameter]:
        """What of the language model is trained."""
        for module in self.language.modules():
            if isinstance(module, LoRA):
                yield from (module.lora_a, module.lora_b)
                if module.bias is not None:
                    yield module.bias
            elif self.config.tuned == "norms" and isinstance(module, LayerNorm):
                yield from module.parameters()
        if self.config.tuned == "norms":
            yield from self.language.backbone.stages[0].entry.parameters()

    def decompose(self, x: Float[Tensor, "batch time"]) -> tuple[Tensor, ...]:
        """Trend, season and rest of normalised windows; they add up to them. The windows alone without decomposition.

        ``trend = W mean_25(x) + b``, ``season = MLP(x - trend)``.
        """
        if not self.config.decompose:
            return (x,)
        side = self.config.kernel // 2
        average = F.avg_pool1d(F.pad(x[:, None], (side, side), mode="replicate"), self.config.kernel, stride=1)
        trend = self.trend(average[:, 0])
        season = self.season(x - trend)
        return trend, season, x - trend - season

    def forward(self, series: Float[Tensor, "batch time variates"]) -> Float[Tensor, "batch horizon variates"]:
        """The next ``horizon`` steps of every variate.

        Raises:
            UserError: the series has another length.
        """
        return self.forecast_and_parts(series)[0]

    def forecast_and_parts(
        self, series: Float[Tensor, "batch time variates"]
    ) -> tuple[Float[Tensor, "batch horizon variates"], Float[Tensor, "parts rows time"]]:
        """The forecast, and the parts that it was made from, a row for each variate of each sample."""
        config = self.config
        if series.ndim != 3 or series.shape[1] != config.length:
            raise UserError(f"Expected series of shape (batch, {config.length}, variates), got {tuple(series.shape)}.")
        batch, _, variates = series.shape
        rows, mean, deviation = self.norm(series.transpose(1, 2).reshape(batch * variates, -1))
        parts = self.decompose(rows)
        tokens = torch.cat([self._prompted(index, values) for index, values in enumerate(parts)], dim=1)
        tokens, context = self.language.backbone.stages[0](tokens, EMPTY)
        tokens = self.language.head.norm(tokens, context)
        forecast = torch.zeros_like(rows[:, :1])
        for head, of_part in zip(self.heads, tokens.chunk(config.parts, dim=1), strict=True):
            seen = of_part if config.forecast_from_prompts else of_part[:, config.prompt_tokens :]
            forecast = forecast + head(seen.flatten(1))
        forecast = self.norm.back(forecast, mean, deviation)
        return forecast.view(batch, variates, -1).transpose(1, 2), torch.stack(parts)

    def _prompted(self, index: int, values: Float[Tensor, "rows time"]) -> Float[Tensor, "rows tokens dim"]:
        """The patches of a part behind its prompt."""
        config = self.config
        padded = F.pad(values[:, None], (0, config.stride), mode="replicate")[:, 0]
        tokens = self.embed[index](padded.unfold(1, config.patch, config.stride))
        if config.pool is None:
            ids = torch.tensor([config.sentences[index]], device=values.device)
            words = self.language.backbone.embed(ids)[0]
            prompt = self.sentences[index](words).expand(len(tokens), -1, -1)
        else:
            prompt = self.pool(tokens)
        return torch.cat([prompt, tokens], dim=1)

    def load_language_model(self, source: str | Path | Mapping[str, Tensor]) -> None:
        """Take the weights of a GPT-2 in the layout of transformers (a file, a folder or a state); the first blocks.

        Raises:
            UserError: they are of another width, or there are fewer blocks.
        """
        state = dict(source) if isinstance(source, Mapping) else read_state(source)
        beyond = re.compile(r"(?:transformer\.)?h\.(\d+)\.")
        kept = {
            name: tensor
            for name, tensor in state.items()
            if not ((match := beyond.match(name)) and int(match[1]) >= self.config.depth)
        }
        own = self.language.state_dict()
        plain = create_model(self.language.specification).to(next(iter(own.values())))
        load_checkpoint(plain, kept)
        self.language.load_state_dict({**own, **plain.state_dict()})
        self.language_weights = "a state" if isinstance(source, Mapping) else str(source)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json``, each whole or not at all."""
        write_safetensors(Path(folder) / WEIGHTS_FILE, self.state_dict(), {"format": "pt"})
        content = {"tempo": dataclasses.asdict(self.config), "language_weights": self.language_weights}
        write_json(Path(folder) / CONFIG_FILE, content)

    @staticmethod
    def from_pretrained(folder: str | Path) -> Tempo:
        """Load what :meth:`save_pretrained` wrote, in eval mode.

        Raises:
            UserError: the folder does not hold a whole TEMPO.
        """
        content = read_json(Path(folder) / CONFIG_FILE)
        try:
            model = Tempo(TypeAdapter(TempoConfig).validate_python(content["tempo"]))
            model.language_weights = str(content["language_weights"])
        except (KeyError, TypeError, ValidationError):
            raise UserError(f"{Path(folder) / CONFIG_FILE} does not describe a TEMPO.") from None
        load_state(model, read_safetensors(Path(folder) / WEIGHTS_FILE))
        return model.eval()


def tempo(config: TempoConfig | None = None, *, language: str | Path | Mapping[str, Tensor] | None = None) -> Tempo:
    """A TEMPO with the GPT-2 of ``language``, or a random one; :attr:`Tempo.language_weights` says which.

    Raises:
        UserError: the weights do not fit.
    """
    model = Tempo(config or TempoConfig())
    if language is not None:
        model.load_language_model(language)
    return model


_NAMES = {"trend": "0", "season": "1", "noise": "2"}
_GPT = r"gpt2_trend\.base_model\.model\."
_ATTENTION = _GPT + r"h\.(\d+)\.attn\."
_OURS = r"language.backbone.stages.0.blocks.\1.branches."


def _numbered(prefix: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{prefix}.{_NAMES[match[1]]}.{match[2]}"


_LAYOUT = Layout(
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
        (r"in_layer_(trend|season|noise)\.(.*)", _numbered("embed")),
        (r"out_layer_(trend|season|noise)\.(.*)", _numbered("heads")),
        (r"prompt_layer_(trend|season|noise)\.(.*)", _numbered("sentences")),
        (r"summary_map\.(.*)", r"pool.summary.\1"),
    ),
)


def load_authors_weights(model: Tempo, state: Mapping[str, Tensor]) -> None:
    """Load weights of the authors' model, strictly; what they save and never use is left out.

    Raises:
        UserError: they are of another model.
    """
    renamed: State = {}
    gpt: State = {}
    for name, tensor in state.items():
        target = _LAYOUT.rename(name)
        if target is None or (model.config.pool is not None and target.startswith("sentences.")):
            continue
        if target.startswith("gpt2."):
            gpt[target.removeprefix("gpt2.")] = tensor
        else:
            renamed[target] = tensor.T if target.endswith("qkv.weight") else tensor
    for index in range(model.config.depth):  # the layout of transformers wants all of its layers
        for leaf in ("weight", "bias"):
            found = renamed.pop(f"language.backbone.stages.0.blocks.{index}.branches.0.part.qkv.{leaf}", None)
            if found is not None:
                gpt[f"h.{index}.attn.c_attn.{leaf}"] = found.T if leaf == "weight" else found
    for kind, ours in (("key", "keys"), ("value", "prompts")):
        if model.config.pool is not None:
            names = [f"prompt_{kind}_dict.prompt_{kind}_{index}" for index in range(model.config.pool)]
            if all(name in renamed for name in names):
                renamed[f"pool.{ours}"] = torch.stack([renamed.pop(name) for name in names])
    model.load_language_model(gpt)
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("language.")}
    load_state(model, {**own, **renamed})
