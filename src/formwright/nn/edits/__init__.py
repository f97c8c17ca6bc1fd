"""The closed set of changes to a built model, replayed from shapes when it is loaded.

A compressor decides *what* changes and records it as an :class:`~formwright.nn.specification.EditSpec`; the functions
here know *how*. ``from_pretrained`` builds the base model, replays its edits, and loads the weights into what results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.edits.axes import module_at, named_axes, tensor_at, widths_of
from formwright.nn.edits.folding import fold
from formwright.nn.edits.keeping import (
    Found,
    extend,
    extend_entries,
    find_axis,
    keep,
    keep_entries,
    permute_entries,
    record_size,
)
from formwright.nn.edits.layers import (
    ADAPTERS,
    adapt,
    adapt_layer,
    factorise,
    factorise_layer,
    replace_layer,
    set_module,
)
from formwright.nn.edits.norms import replace_norms
from formwright.nn.edits.parts import drop, drop_branch, merge, merge_tokens, replace, replace_part, swap_mixers
from formwright.nn.edits.quantisation import quantisable_layers, quantise, quantise_layers, tap_quantiser
from formwright.nn.specification import EditSpec

__all__ = [
    "ADAPTERS",
    "EDITS",
    "Edit",
    "Found",
    "adapt_layer",
    "apply_edits",
    "drop_branch",
    "extend_entries",
    "factorise_layer",
    "find_axis",
    "keep_entries",
    "merge_tokens",
    "module_at",
    "named_axes",
    "permute_entries",
    "quantisable_layers",
    "quantise_layers",
    "record_size",
    "replace_layer",
    "replace_part",
    "set_module",
    "swap_mixers",
    "tap_quantiser",
    "tensor_at",
    "widths_of",
]

Edit = Callable[[nn.Module, str, Mapping[str, Any]], None]

EDITS: dict[str, Edit] = {
    "adapt": adapt,
    "drop": drop,
    "extend": extend,
    "factorise": factorise,
    "fold": fold,
    "keep": keep,
    "merge": merge,
    "quantise": quantise,
    "replace": replace,
    "replace_norms": replace_norms,
}


def apply_edits(model: nn.Module, edits: Sequence[EditSpec]) -> None:
    """Replay recorded edits on a freshly built model.

    Raises:
        UserError: an edit is unknown or does not fit the model.
    """
    for edit in edits:
        if edit.name not in EDITS:
            raise UnknownNameError("edit", edit.name, EDITS)
        try:
            EDITS[edit.name](model, edit.target, edit.options)
        except KeyError as missing:
            raise UserError(f"The edit {edit.name!r} of {edit.target!r} lacks its option {missing}.") from None
