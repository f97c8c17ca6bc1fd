"""The base of every model: built from a specification, edited, saved, loaded, counted and streamed by the same methods.

A network is a registered specification and a visible ``forward``. Everything here goes by the names of inputs, outputs
and parts, never by a topology: a new kind is a dataclass (:func:`formwright.nn.specification.register_specification`)
and a subclass with ``build`` and ``forward``, registered in :data:`NETWORKS` under the same name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from formwright.batch import Inputs, call
from formwright.errors import UserError
from formwright.files import read_json, write_json, write_safetensors
from formwright.nn.context import EMPTY, SETTLED, Context, split_prefix
from formwright.nn.convolution import keep_kernels_channels_last
from formwright.nn.edits import apply_edits
from formwright.nn.frame import Block, Branch, Stage
from formwright.nn.initialization import Unfilled, initialize
from formwright.nn.inputs import GridInput, ImageInput, Input, Source, TokenInput
from formwright.nn.masks import mask_of_lengths
from formwright.nn.parts import RESIDUAL, Axis, InnerAxes, Part, State, Width, check_offers, forget_checks, offers_taken
from formwright.nn.specification import EditSpec, NetworkSpec
from formwright.nn.streaming import crop, initial_state
from formwright.registry import Registry

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

NETWORKS: Registry[type[Network]] = Registry("kind of network", group="formwright.networks")
#: How files that named no kind are read: by the entry of ``config.json`` that only such files have, a function from the
#: whole file to a specification.
EARLIER_CONFIGS: Registry[Callable[[Mapping[str, Any]], dict[str, Any]]] = Registry(
    "form of config.json", group="formwright.earlier_configs"
)


@dataclass(frozen=True)
class FeatureInfo:
    """A feature map that :meth:`Network.features` can return: input pixels (or steps) per token, and channels."""

    name: str
    stride: int
    dim: int


class Network(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="formwright",
    tags=["formwright"],
):
    """What all models are: built from a specification (or the plain dictionary of one), saved and loaded in one line.

    A subclass makes its modules in :meth:`build` and calls them in ``forward``, whose arguments carry the names of
    ``specification.inputs``; it returns a tensor, or a mapping of names to tensors.

    Class attributes:
        specification_type: the dataclass that describes the kind.
        offers: what ``forward`` puts into the context for its parts (``condition``, ``memory``): at least one part must
            take each, which is checked when the network is built or edited.
        optional_inputs: names of further arguments of ``forward`` that may come beside the inputs.
    """

    specification_type: ClassVar[type[NetworkSpec]] = NetworkSpec
    offers: ClassVar[frozenset[str]] = frozenset()
    optional_inputs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, specification: NetworkSpec | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(specification, NetworkSpec):
            specification = self.specification_type.from_dict(specification)
        if not isinstance(specification, self.specification_type):
            raise UserError(
                f"{type(self).__name__} is built from a {self.specification_type.__name__}, and got a "
                f"{type(specification).__name__}; create_model builds every kind."
            )
        self._specification: NetworkSpec = specification
        self.build(specification)
        initialize(self, rule=specification.initialization)
        apply_edits(self, specification.edits)
        keep_kernels_channels_last(self)
        self.check_parts()

    def build(self, specification: Any) -> None:
        """Make the modules that the specification describes."""
        raise TypeError(f"{type(self).__name__} does not say what it is made of.")

    @property
    def specification(self) -> Any:
        """What the network is now: the base and the edits made since."""
        return self._specification

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        """As :meth:`Part.axes`, of tensors that are in none of the network's parts."""
        return {}

    def inner_axes(self) -> InnerAxes:
        """As :meth:`Part.inner_axes`, for parts and stages of a network whose tokens have one width."""
        return {}

    def widths(self) -> list[Width]:
        """The widths of the tokens, each shared by all that reads them or adds to them; none where it does not say."""
        return [Width((("", RESIDUAL.name),))] if self.axes() or self.inner_axes() else []

    def record_edits(self, edits: Sequence[EditSpec]) -> None:
        """Append edits that were just made to this network, so that it reloads as it is."""
        keep_kernels_channels_last(self)
        self._specification = dataclasses.replace(self._specification, edits=(*self._specification.edits, *edits))
        self.check_parts()

    def check_parts(self) -> None:
        """Find out which offers the parts take and which facts they honour: when built, and after every edit.

        Raises:
            UserError: nothing takes what the network or a part in it offers, a mixer stands on a grid of more or fewer
                axes than it takes, or a part would ignore the padding of its input.
        """
        forget_checks(self)
        self._offers_taken = offers_taken(self)
        offered = self.offers.union(*(part.offers for part in self.modules() if isinstance(part, Part)))
        unused = sorted(offered - self._offers_taken)
        if unused:
            raise UserError(
                f"No part of {self._specification.name} uses the {', '.join(unused)} that it is given; add a part "
                "that does."
            )
        for name, part in self.named_modules():
            if isinstance(part, Branch) and part.grid and len(part.grid) not in part.part.promises.dimensions:
                takes = " or ".join(map(str, part.part.promises.dimensions))
                raise UserError(
                    f"{type(part.part).__name__} ({name}) takes tokens on a grid of {takes} axes, and this network has "
                    f'{len(part.grid)}; part("flattened", part=...) puts them on one axis.'
                )
            if isinstance(part, Part) and "mask" in part.ignored_facts() and self.pads:
                raise UserError(
                    f"The input of {self._specification.name} has padding, which {part.ignored_facts()['mask']} "
                    f"({name}) would take for real tokens; choose a part that uses a mask."
                )

    @property
    def pads(self) -> bool:
        """Whether inputs come with padding: an id that stands for it, or lengths."""
        return any(source.sized or getattr(source, "padding", None) is not None for source in self.inputs.values())

    def settle(self, context: Context = EMPTY) -> Context:
        """The context for the parts of this network: what is offered is taken by one of them.

        Raises:
            UserError: something is offered that nothing takes.
        """
        if context is EMPTY:
            return SETTLED
        if context.checked:
            return context
        check_offers(self, context, self._offers_taken)
        return context.replace(checked=True)

    def masked(self, source: Source, x: Tensor, context: Context = EMPTY, lengths: Tensor | None = None) -> Context:
        """The context for the parts with padding masked, where the input ``x`` has any.

        Args:
            source: what the input is, which says which ids are no tokens, or that samples have sizes of their own.
            lengths: the size of each sample.

        Raises:
            UserError: the samples have sizes of their own, and ``lengths`` are missing.
        """
        if lengths is not None:
            size = x.shape[2:] if isinstance(source, ImageInput | GridInput) else x.shape[1:2]
            if lengths.shape[0] != x.shape[0]:
                raise UserError(f"There are {x.shape[0]} samples and {lengths.shape[0]} lengths; give one per sample.")
            real = mask_of_lengths(lengths, tuple(size))
        elif isinstance(source, TokenInput) and source.padding is not None:
            real = x != source.padding
        elif source.sized:
            raise UserError(
                f"{self._specification.name} takes samples of several sizes: give `lengths` beside the input, the "
                "size of each."
            )
        else:
            return self.settle(context)
        return self.settle(context.replace(mask=real if context.mask is None else real & context.mask))

    # What goes in.

    @property
    def inputs(self) -> Mapping[str, Input]:
        """What the network takes, by the names of its ``forward``."""
        return self._specification.inputs

    def example(self, batch: int = 1, *, optional: bool = False) -> Inputs:
        """Inputs for ``batch`` samples: a tensor where there is one input, a mapping by name where there are more.

        What the network answers without is left out, or with ``optional`` as well.
        """
        wanted = {name: own for name, own in self.inputs.items() if optional or not getattr(own, "optional", False)}
        examples = {name: source.example(batch) for name, source in wanted.items()}
        return next(iter(examples.values())) if len(examples) == 1 else examples

    def parameter_count(self, *, trainable: bool = False) -> int:
        """Number of parameters, with or without frozen ones."""
        return sum(math.prod(p.shape) for p in self.parameters() if p.requires_grad or not trainable)

    # What comes out on the way.

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The stages of the network by name, in order: where :meth:`features` looks."""
        for name, module in self.named_modules():
            if isinstance(module, Stage):
                yield name, module

    @property
    def block_names(self) -> list[str]:
        """The names of the blocks, in order: :meth:`features` gives what comes out of them."""
        return list(self._blocks())

    def _blocks(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.named_modules() if isinstance(module, Block)}

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The feature maps that :meth:`features` can return, in order."""
        stages = list(self.stages())
        side = next((source.size[0] for source in self.inputs.values() if hasattr(source, "size")), 1)
        return [FeatureInfo(name, max(1, round(side / stage.grid[0])), stage.dim) for name, stage in stages]

    def features(self, inputs: Inputs, at: Sequence[int | str] | None = None) -> list[Float[Tensor, "batch *grid dim"]]:
        """Token grids ``(batch, *grid, dim)`` after the stages ``at``; after every stage if unset.

        Args:
            inputs: what ``forward`` takes: a tensor, or several by name.
            at: numbers, or names of :attr:`feature_info`; names of :attr:`block_names` too, for networks of one stage.

        Raises:
            UserError: a stage that the network does not have.
        """
        stages: dict[str, nn.Module] = {**dict(self.stages()), **self._blocks()}
        seen: dict[str, Tensor] = {}

        def listen(name: str) -> Any:
            def hook(module: nn.Module, arguments: Any, output: tuple[Tensor, Context]) -> None:
                x, context = output
                seen[name] = split_prefix(x, context)[1] if context.flat else x

            return hook

        names = self._features_at(at)
        handles = [stages[name].register_forward_hook(listen(name)) for name in names]
        try:
            call(self, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [seen[name] for name in names]

    def _features_at(self, at: Sequence[int | str] | None) -> list[str]:
        names = [info.name for info in self.feature_info]
        wanted: list[str] = []
        for index in range(len(names)) if at is None else at:
            if isinstance(index, int) and -len(names) <= index < len(names):
                wanted.append(names[index])
            elif index in names or index in self._blocks():
                wanted.append(str(index))
            else:
                raise UserError(
                    f"There is no feature map {index!r}; this model has {', '.join(names)}, and those of its blocks, "
                    f"such as {next(iter(self.block_names), 'none')}."
                )
        return wanted

    # Token by token.

    def streamed_parts(self) -> Iterator[tuple[str, Part]]:
        """The parts that a stream passes through, in order, by name.

        Raises:
            UserError: the network cannot stream.
        """
        raise UserError(f"{self._specification.name} cannot stream: it answers for a whole input at once.")

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """What ``stream`` starts from, for ``batch`` rows of at most ``capacity`` tokens each.

        A flat dictionary of tensors of fixed shapes; ``length`` says how many tokens each row has seen.

        Raises:
            UserError: a part of the network cannot stream.
        """
        weight = next(self.parameters())
        device, dtype = device or weight.device, dtype or weight.dtype
        return initial_state(self.streamed_parts(), batch, capacity, device=device, dtype=dtype)

    def stream(self, input: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        """The answers for the next tokens of every row, given what the state remembers, and the state after them.

        In any division of a sequence this gives what ``forward`` gives for the whole.

        Args:
            input: the next tokens ``(batch, n)``, any number of them.
            state: of :meth:`init_state` or of the latest call; its tensors may be changed in place.
            context: ``mask`` ``(batch, n)`` is false for padding behind a row's tokens.

        Raises:
            UserError: the network cannot stream.
        """
        next(self.streamed_parts())
        raise TypeError(f"{type(self).__name__} does not say how it streams.")

    def crop(self, state: State, length: int | Int[Tensor, " batch"]) -> State:
        """The state of a stream that has seen the first ``length`` tokens of each row only: a step back in a text.

        Shorter rows stay as they are. Keys and values of later tokens are forgotten; ``state`` shares its tensors.

        Raises:
            UserError: a part, such as a recurrent one, does not hold any more what it knew then.
        """
        return crop(self.streamed_parts(), state, length)

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
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **hub_options: Any) -> Self:
        """Load a saved folder, or with the name of a repository what was pushed to a hub, in eval mode.

        Raises:
            UserError: the folder does not hold a whole model, or one of another kind.
        """
        if Path(pretrained_model_name_or_path).is_dir() and not hub_options:
            model = load_folder(pretrained_model_name_or_path)
        else:
            model = super().from_pretrained(pretrained_model_name_or_path, **hub_options)
        if not isinstance(model, cls):
            raise UserError(f"{pretrained_model_name_or_path} holds a {type(model).__name__}, not a {cls.__name__}.")
        return model

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = True,
        specification: Mapping[str, Any],
        **hub_options: Any,
    ) -> Network:
        """Rebuild from shapes, then load the weights; only safetensors are read."""
        folder = Path(model_id)
        if not folder.is_dir():
            from huggingface_hub import hf_hub_download

            options = {key: value for key, value in hub_options.items() if key in _HUB_OPTIONS}
            folder = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS_FILE, **options)).parent
        model = build_network(cls.specification_type.from_dict(specification))
        load_state(model, read_safetensors(folder / WEIGHTS_FILE))
        return model.to(map_location).eval()


_HUB_OPTIONS = {"revision", "cache_dir", "force_download", "token", "local_files_only"}


def load_folder(folder: str | Path) -> Network:
    """Load a network that :meth:`Network.save_pretrained` wrote, in eval mode.

    Raises:
        UserError: the folder is missing, or does not hold a whole model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give the folder that a model was saved in.")
    model = build_network(read_specification(folder))
    load_state(model, read_safetensors(folder / WEIGHTS_FILE))
    return model.eval()


def read_specification(folder: Path) -> NetworkSpec:
    """The specification of a saved network.

    Raises:
        UserError: ``config.json`` is missing, damaged, or describes no network.
    """
    config = read_json(folder / CONFIG_FILE)
    if isinstance(config, dict):
        if "specification" in config:
            return NetworkSpec.from_dict(config["specification"])
        for name in EARLIER_CONFIGS:
            if name in config:
                return NetworkSpec.from_dict(EARLIER_CONFIGS[name](config))
    raise UserError(f"{folder / CONFIG_FILE} does not describe a model of formwright.")


def build_network(specification: NetworkSpec | Mapping[str, Any]) -> Network:
    """The network of any kind that a specification, or the dictionary of one, describes.

    Raises:
        UserError: the specification cannot be read, or its parts do not fit together.
    """
    if not isinstance(specification, NetworkSpec):
        specification = NetworkSpec.from_dict(specification)
    return NETWORKS[specification.kind](specification)


@torch.no_grad()
def empty_copy(specification: NetworkSpec) -> Network:
    """The network without memory for its weights (PyTorch's meta device): for counting, not for running."""
    with torch.device("meta"), Unfilled():
        return build_network(specification)


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


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, ignore_missing: tuple[str, ...] = ()) -> None:
    """Load a state of our own layout, strictly; sides of length one do not count as another shape.

    Raises:
        UserError: the weights belong to another model; lists what is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state and not name.startswith(ignore_missing)]
    unexpected = [name for name in state if name not in own]
    fitted: State = {}
    differing = []
    for name, tensor in state.items():
        if name not in own:
            continue
        if tensor.shape != own[name].shape:
            if _without_ones(tensor.shape) != _without_ones(own[name].shape):
                differing.append(f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}")
                continue
            tensor = tensor.reshape(own[name].shape)
        fitted[name] = tensor
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        if names
    ]
    if problems:
        raise UserError("These weights belong to another model; " + "; ".join(problems) + ".")
    model.load_state_dict(fitted, strict=False)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]
