"""The model that a specification describes: embed, stages, head; saved and loaded in one line each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.files import write_json, write_safetensors
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import keep_kernels_channels_last
from formwright.nn.edits import apply_edits
from formwright.nn.frame import Backbone, Stage
from formwright.nn.initialization import initialize
from formwright.nn.part import RESIDUAL, Part, State, Width, build_part
from formwright.nn.specification import EditSpec, ImageInput, ModelSpec, TokenInput
from formwright.nn.streaming import Streams, initial_state

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class FeatureInfo:
    """A feature map that :meth:`Model.features` can return: input pixels (or steps) per token, and channels."""

    name: str
    stride: int
    dim: int


class Model(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="formwright",
    tags=["formwright"],
):
    """Embedding, stages and head, built from a :class:`ModelSpec` (or the plain dictionary of one).

    >>> model = Model(specification)                      # doctest: +SKIP
    >>> logits = model(images)                            # (batch, channels, height, width) -> (batch, classes)
    >>> maps = model.features(images)                     # token grids (batch, height, width, channels), one a stage
    """

    def __init__(self, specification: ModelSpec | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(specification, ModelSpec):
            specification = ModelSpec.from_dict(specification)
        self._specification = specification
        source = specification.input
        self.backbone = Backbone(
            specification.embed, specification.stages, source.channels, source.size, specification.embed_dim
        )
        self.head: Part = build_part(
            specification.head, self.backbone.dim, specification.classes, grid=self.backbone.grid
        )
        if getattr(self.head, "tied", False):
            self.head.tie(self.backbone.embed)
        initialize(self, rule=specification.initialization)
        apply_edits(self, specification.edits)
        keep_kernels_channels_last(self)

    @property
    def specification(self) -> ModelSpec:
        """What the model is now: the base and the edits made since."""
        return self._specification

    def widths(self) -> list[Width]:
        """The widths of the tokens, each shared by all that reads them and adds to them."""
        *before, last = self.backbone.widths("backbone")
        return [*before, Width((*last.members, ("head", RESIDUAL.name)))]

    def record_edits(self, edits: Sequence[EditSpec]) -> None:
        """Append edits that were just made to this model, so that it reloads as it is."""
        import dataclasses

        self._specification = dataclasses.replace(self._specification, edits=(*self._specification.edits, *edits))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        size = self._specification.input.size
        grids = self.backbone.grids(size)
        dims = [stage.dim for stage in self.backbone.stages if isinstance(stage, Stage)]
        return [
            FeatureInfo(f"stages.{index}", round(size[0] / grid[0]), dim)
            for index, (grid, dim) in enumerate(zip(grids, dims, strict=True))
        ]

    def check_input(self, x: Tensor) -> None:
        """Refuse what is not a batch of the model's input, or is too small for the model.

        Raises:
            UserError: names what came and what was expected.
        """
        source = self._specification.input
        source.check(x)
        if isinstance(source, ImageInput):
            self.backbone.check_size(tuple(x.shape[2:]))

    def _context(self, x: Tensor, context: Context) -> Context:
        """The context with padding masked, where the input says which ids are no tokens."""
        source = self._specification.input
        if not isinstance(source, TokenInput) or source.padding is None:
            return context
        real = x != source.padding
        return context.replace(mask=real if context.mask is None else real & context.mask)

    def forward(self, x: Tensor, context: Context = EMPTY) -> Tensor:
        """Scores of images ``(batch, channels, height, width)``, ids ``(batch, time)`` or series.

        A classifier gives ``(batch, classes)``, a language model ``(batch, time, classes)``.
        """
        self.check_input(x)
        tokens, context = self.backbone(x, self._context(x, context))
        self.head.check_context(context)
        return self.head(tokens, context)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """What :meth:`stream` starts from, for ``batch`` rows of at most ``capacity`` tokens each.

        A flat dictionary of tensors of fixed shapes; ``length`` says how many tokens each row has seen.

        Raises:
            UserError: a part of the model cannot stream.
        """
        weight = next(self.parameters())
        device, dtype = device or weight.device, dtype or weight.dtype
        return initial_state(self.streamed_parts(), batch, capacity, device=device, dtype=dtype)

    def streamed_parts(self) -> Iterator[tuple[str, Part]]:
        """The parts that a stream passes through, in order, by name."""
        yield from self.backbone.parts()
        yield "head", self.head

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        """Scores for the next tokens of every row, given what the state remembers, and the state after them.

        In any division of a text this gives the scores that :meth:`forward` gives.

        Args:
            x: ids ``(batch, n)``, any number of them.
            state: of :meth:`init_state` or of the latest call; its tensors may be changed in place.
            context: ``mask`` ``(batch, n)`` is false for padding behind a row's tokens.
        """
        self.check_input(x)
        context = self._context(x, context)
        streams = Streams(state)
        tokens = self.backbone.stream(x, streams, context)
        scores = streams.through("head", self.head, tokens, context)
        return scores, streams.state(x.shape[1], context.mask)

    def features(self, x: Tensor, at: Sequence[int | str] | None = None) -> list[Float[Tensor, "batch *grid dim"]]:
        """Token grids after the stages ``at`` (numbers, or names of :attr:`feature_info`); after every stage if unset.

        Raises:
            UserError: a stage that the model does not have.
        """
        self.check_input(x)
        names = [info.name for info in self.feature_info]
        wanted = range(len(names)) if at is None else [names.index(a) if a in names else a for a in at]
        for index in wanted:
            if not isinstance(index, int) or not -len(names) <= index < len(names):
                raise UserError(f"There is no feature map {index!r}; this model has {', '.join(names)}.")
        return self.backbone.features(x, [int(index) % len(names) for index in wanted], self._context(x, EMPTY))

    def parameter_count(self, *, trainable: bool = False) -> int:
        """Number of parameters, with or without frozen ones."""
        return sum(math.prod(p.shape) for p in self.parameters() if p.requires_grad or not trainable)

    # Saving and loading. The mixin supplies `push_to_hub`; what is written is always the present specification.

    def config(self) -> dict[str, Any]:
        from formwright import __version__

        return {"formwright": __version__, "specification": self._specification.to_dict()}

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_options: Any,
    ) -> None:
        """Write ``model.safetensors`` and ``config.json``, each whole or not at all."""
        folder = Path(save_directory)
        write_safetensors(folder / WEIGHTS_FILE, self.state_dict(), {"format": "pt"})
        write_json(folder / CONFIG_FILE, self.config())
        if model_card_kwargs is not None:
            self.generate_model_card(**model_card_kwargs).save(folder / "README.md")
        if push_to_hub:
            self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs or {}, **push_options)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = True,
        specification: Mapping[str, Any],
        **hub_options: Any,
    ) -> Model:
        """Rebuild from shapes, then load the weights; only safetensors are read."""
        folder = Path(model_id)
        if not folder.is_dir():
            from huggingface_hub import hf_hub_download

            options = {key: value for key, value in hub_options.items() if key in _HUB_OPTIONS}
            folder = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS_FILE, **options)).parent
        model = cls(specification)
        from formwright.models.checkpoints import load_state

        load_state(model, read_safetensors(folder / WEIGHTS_FILE))
        return model.to(map_location).eval()


_HUB_OPTIONS = {"revision", "cache_dir", "force_download", "token", "local_files_only"}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        return load_file(path)
    except Exception as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}.") from None


@torch.no_grad()
def empty_copy(specification: ModelSpec) -> Model:
    """The model without memory for its weights (PyTorch's meta device): for counting, not for running."""
    with torch.device("meta"):
        return Model(specification)
