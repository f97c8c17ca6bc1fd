"""Weights from elsewhere: our own, the authors' and other libraries' names, recognised, converted, written back."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models.network import Network, load_state
from formwright.models.preprocessing import Preprocessing
from formwright.models.resizing import resized_tables
from formwright.models.states import State as State
from formwright.models.states import plain_names, read_state

#: A pattern over the source's parameter name and its replacement; the first that matches the whole name is used.
#: A replacement may be a function of the match; ``None`` drops the tensor. One that ends in ``#0``, ``#1``, ... is a
#: piece of one of our tensors along its first axis; see :func:`stacked`.
Rename = tuple[str, "str | Callable[[re.Match[str]], str] | None"]


def stacked(pattern: str, names: Sequence[str], target: str) -> tuple[Rename, ...]:
    """Renames for tensors that are one of ours on top of each other: queries, keys and values, for one.

    Args:
        pattern: a pattern in which ``{}`` stands for the name of a piece.
        names: the names of the pieces, from the top.
        target: the replacement.
    """
    return tuple((pattern.replace("{}", name), f"{target}#{index}") for index, name in enumerate(names))


@dataclass(frozen=True)
class Layout:
    """Somebody's names for the parameters of a family.

    Attributes:
        name: whose layout it is, as a person would say it.
        marker: a pattern that some name of every such checkpoint matches, and none of our own does.
        renames: how names change, tried in order.
        convert: a last step on the renamed state, for tensors that are laid out otherwise.
        restore: the way back of ``convert``.
        copies: their names for tensors that repeat another one, each with the name of that one.
        preprocessing: how pictures were prepared for every checkpoint in this layout, but for their size, which is the
            model's.
    """

    name: str
    marker: str
    renames: Sequence[Rename]
    convert: Callable[[State, Any], State] | None = None
    restore: Callable[[State, Any], State] | None = None
    copies: Callable[[Any], Mapping[str, str]] | None = None
    preprocessing: Preprocessing | None = None

    def recognises(self, names: Iterable[str]) -> bool:
        pattern = re.compile(self.marker)
        return any(pattern.search(name) for name in names)

    def apply(self, state: Mapping[str, Tensor], model: nn.Module) -> State:
        pieces: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self._without_copies(state, model).items():
            target = self.rename(name)
            if target is not None:
                whole, _, place = target.partition("#")
                pieces.setdefault(whole, {})[place] = tensor
        renamed = {
            name: parts[""] if "" in parts else torch.cat([parts[place] for place in sorted(parts, key=int)])
            for name, parts in pieces.items()
        }
        try:
            return renamed if self.convert is None else self.convert(renamed, model)
        except KeyError as missing:
            raise UserError(
                f"These weights belong to another model; {missing} is missing from what looked like a checkpoint of "
                f"{self.name}."
            ) from None
        except (IndexError, RuntimeError) as problem:
            raise UserError(f"These weights belong to another model of {self.name}: {problem}.") from None

    def rename(self, name: str) -> str | None:
        """Our name of one parameter; none if it is left out."""
        for pattern, replacement in self.renames:
            match = re.fullmatch(pattern, name)
            if match:
                if replacement is None:
                    return None
                return replacement(match) if callable(replacement) else match.expand(replacement)
        return name

    def _without_copies(self, state: Mapping[str, Tensor], model: Any) -> State:
        """The state without what repeats other tensors of it.

        Raises:
            UserError: such a tensor has values of its own, which the model has no place for.
        """
        state = dict(state)
        for copy, original in (self.copies(model) if self.copies else {}).items():
            tensor = state.pop(copy, None)
            if tensor is None:
                continue
            other = state.setdefault(original, tensor)
            if tensor.shape != other.shape or not torch.equal(tensor.to(other.dtype), other):
                raise UserError(
                    f"{copy} differs from {original}, and {model.specification.name} has one tensor for both; load it "
                    "into a model that does not tie them."
                )
        return state

    def write(self, model: Network) -> State:
        """The weights of ``model`` in this layout.

        Raises:
            UserError: the layout is for reading only.
        """
        if self.convert is not None and self.restore is None:
            raise UserError(f"The layout of {self.name} for {model.specification.family} can be read, not written.")
        state = model.state_dict()
        state = state if self.restore is None else self.restore(state, model)
        written: State = {}
        for name, tensor in state.items():
            names = self._names_of(name)
            written |= zip(names, tensor.chunk(len(names)) if len(names) > 1 else (tensor,), strict=True)
        copies = self.copies(model) if self.copies else {}
        return {**written, **{copy: written[original] for copy, original in copies.items()}}

    def _names_of(self, name: str) -> list[str]:
        """Their name of one of our tensors, or those of its pieces."""
        whole = self._name_of(name)
        names = [] if whole is None else [whole]
        while whole is None and (piece := self._name_of(f"{name}#{len(names)}")) is not None:
            names.append(piece)
        if not names:
            raise UserError(f"The layout of {self.name} has no place for {name}; it can be read, not written.")
        return names

    def _name_of(self, name: str) -> str | None:
        for pattern, replacement in self._inverse:
            match = pattern.fullmatch(name)
            if match:
                return match.expand(replacement)
        return None

    @functools.cached_property
    def _inverse(self) -> list[tuple[re.Pattern[str], str]]:
        """The renames that have a way back, as patterns over our names and replacements."""
        inverted = (_inverted(*each) for each in self.renames if isinstance(each[1], str))  # type: ignore[arg-type]
        return [each for each in inverted if each is not None]


#: What a pattern with a way back is made of: an optional name, a group, or names.
_PIECES = re.compile(
    r"\(\?:(?P<option>[^()|]*)\)\?|\((?P<group>[^()?][^()]*)\)|(?P<literal>(?:\\.|[^()\\.*+?|\[\]^$])+)"
)


def _inverted(pattern: str, replacement: str) -> tuple[re.Pattern[str], str] | None:
    """A rename the other way round; none if names or groups are lost on the way. Options are taken."""
    groups: list[str] = []
    theirs, end = "", 0
    for piece in _PIECES.finditer(pattern):
        if piece.start() != end:
            return None
        end = piece.end()
        if piece["group"] is None:
            theirs += re.sub(r"\\(.)", r"\1", piece["option"] or piece["literal"])
        else:
            groups.append(piece["group"])
            theirs += rf"\g<g{len(groups)}>"
    if end != len(pattern):
        return None
    ours, seen = "", set()
    for literal, number in re.findall(r"((?:[^\\]|\\(?!\d))*)(?:\\(\d))?", replacement):
        ours += re.escape(literal)
        if number:
            ours += f"(?P=g{number})" if number in seen else f"(?P<g{number}>{groups[int(number) - 1]})"
            seen.add(number)
    if len(seen) != len(groups):
        return None
    return re.compile(ours), theirs


#: How the names of the layers begin whose size is the number of classes.
CLASSIFIER = ("head.linear.", "head.distilled.")
#: How the names of layers begin that make one vector of tokens for the classifier; not every checkpoint has them.
POOLER = "head.pool."

#: Layouts by family of models; each family's file adds its own.
LAYOUTS: dict[str, list[Layout]] = {}


def register_layout(family: str, layout: Layout) -> None:
    LAYOUTS.setdefault(family, []).append(layout)


def layout_of(family: str, names: Iterable[str]) -> Layout | None:
    """The first layout of a family that has these names; none if they are our own."""
    names = list(names)
    return next((layout for layout in LAYOUTS.get(family, []) if layout.recognises(names)), None)


def drop_tied_scores(state: State, model: Any) -> State:
    """The state without a matrix of scores that repeats the embedding, where ``model`` has one tensor for both.

    Raises:
        UserError: the matrix has values of its own, which would be lost.
    """
    if not getattr(model.head, "tied", False):
        return state
    scores, embedding = state.pop("head.linear.weight", None), state.get("backbone.embed.weight")
    if scores is not None and embedding is not None and not torch.equal(scores.to(embedding.dtype), embedding):
        raise UserError(
            "The scores of these weights are not tied to their embedding, and those of the model are: build it with "
            "tied=False."
        )
    return state


def fitted_head(state: State, model: Any) -> State:
    """The state without the head of another task than the model's; see :func:`drop_tied_scores`."""
    own = model.state_dict()
    state = drop_tied_scores(state, model)
    return {name: tensor for name, tensor in state.items() if name in own or not name.startswith("head.")}


def load_checkpoint(
    model: Network,
    source: str | Path | Mapping[str, Tensor],
    *,
    head: bool = True,
    resize_positions: bool = False,
) -> str:
    """Load weights into ``model`` in whatever known layout they are.

    Args:
        model: a model of the family that the weights belong to.
        source: a file, a folder that we saved, or a state dictionary.
        head: load the classifier too; false keeps the model's own, for another set of classes, and the layers that
            pool tokens for it where the checkpoint has none.
        resize_positions: bring tables of positions and of their differences to the model's size of the input, as
            :func:`~formwright.models.resizing.resized_tables` does.

    Returns:
        Whose layout it was: ``"formwright"``, or the name of the authors' or library's layout.

    Raises:
        UserError: the weights do not fit; the message lists what is missing, unexpected or of another shape.
    """
    state = plain_names(source) if isinstance(source, Mapping) else read_state(source)
    layout = layout_of(model.specification.family, state)
    if layout is not None:
        state = layout.apply(state, model)
    if not head:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIER)}
        own = model.state_dict().keys()
        state = {name: tensor for name, tensor in state.items() if name in own or not name.startswith("head.")}
    if resize_positions:
        state = resized_tables(model, state)
    load_state(model, state, ignore_missing=(*CLASSIFIER, POOLER) if not head else ())
    return "formwright" if layout is None else layout.name


def to_layout(model: Network, name: str = "transformers") -> State:
    """The weights of a model as another library keeps them, to be loaded there; tensors are shared with the model.

    >>> their_model.load_state_dict(to_layout(model))                  # doctest: +SKIP

    Args:
        model: a model as it was built.
        name: whose layout it is, as :func:`load_checkpoint` calls it.

    Raises:
        UserError: there is no such layout, it can only be read, or the model was compressed since it was built.
    """
    specification = model.specification
    layouts = {layout.name: layout for layout in LAYOUTS.get(specification.family, [])}
    if name not in layouts:
        raise UserError(
            f"Weights of {specification.name} cannot be written in the layout of {name!r}; known: "
            f"{', '.join(layouts) or 'none'}."
        )
    if specification.edits:
        raise UserError(
            f"{specification.name} was changed since it was built ({specification.edits[0].name}), and {name} has no "
            "such model: write its weights before, or keep it with save_pretrained."
        )
    return layouts[name].write(model)
