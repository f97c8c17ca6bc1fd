"""Layer norms become RMS norms: the stream between them is kept at mean zero by the weights that write to it.

A layer norm does not see the mean of its input. If everything that is added to the stream has mean zero, a layer norm
is an RMS norm; and if the last channel is minus the sum of the others, it need not be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.frame import Backbone, Branch, Stage
from formwright.nn.heads import TokenScores
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.norms import CRMSNorm, LayerNorm, RMSNorm
from formwright.nn.parts import Part

BY: dict[str, type[RMSNorm] | type[CRMSNorm]] = {"rms_norm": RMSNorm, "crms_norm": CRMSNorm}


def replace_norms(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Replace every layer norm of a model without changing what it computes; option: ``by``, a norm of :data:`BY`.

    Raises:
        UserError: the model has not one backbone and one head, of layer norms before linear reads and linear writes;
            names the first part that is not.
    """
    by = options["by"]
    if by not in tuple(BY):  # anything may stand in a file
        raise UnknownNameError("norm", by, BY)
    backbone, head = getattr(model, "backbone", None), getattr(model, "head", None)
    if not isinstance(backbone, Backbone) or not isinstance(head, Part):
        raise UserError(
            f"The layer norms of a {type(model).__name__} cannot be replaced: its tokens are not one stream from an "
            "embedding through its stages to a head."
        )
    _check(backbone, head)
    if isinstance(head, TokenScores) and head.tied:
        head.untie()
    dim = backbone.dim
    centre = torch.eye(dim, dtype=torch.float64) - 1 / dim
    kept = dim - 1 if by == "crms_norm" else dim
    # The last channel of a whole vector is minus the sum of the others.
    complete = torch.eye(dim, dtype=torch.float64)
    complete[-1] = -1
    for branch in _branches(backbone):
        if branch.layer_scale is not None:
            _scale_output(branch.part, branch.layer_scale)
            branch.layer_scale = None
    for writer in _writers(backbone):
        map_output(writer, centre[:kept])
    for owner in [*_branches(backbone), head]:
        reader, norm = owner.part if isinstance(owner, Branch) else head, owner.norm
        assert isinstance(norm, LayerNorm)
        if norm.weight is not None:
            _scale_input(reader, norm.weight, norm.bias)
        if kept < dim:
            map_input(reader, complete[:, :kept])
        replacement = BY[by](kept, eps=norm.eps)
        replacement.weight = None
        owner.norm = replacement
    if kept < dim:
        for stage in _stages(backbone):
            stage.in_dim = stage.dim = kept


def _branches(backbone: Backbone) -> Iterator[Branch]:
    return (module for module in backbone.modules() if isinstance(module, Branch))


def _stages(backbone: Backbone) -> Iterator[Stage]:
    return (module for module in backbone.stages if isinstance(module, Stage))


def _entries(backbone: Backbone) -> Iterator[Part]:
    return (entry for stage in _stages(backbone) for entry in stage.entry if isinstance(entry, Part))


def _writers(backbone: Backbone) -> Iterator[Part]:
    yield backbone.embed
    yield from _entries(backbone)
    for branch in _branches(backbone):
        yield branch.part


def _check(backbone: Backbone, head: Part) -> None:
    def refuse(reason: str) -> UserError:
        return UserError(f"The layer norms of this model cannot be replaced: {reason}.")

    if any(stage.downsample is not None for stage in _stages(backbone)):
        raise refuse("it has layers between its stages, and its stream must be one from the embedding to the head")
    for name, part in backbone.named_modules():
        if isinstance(part, Branch):
            if part.post_norm is not None:
                raise refuse(f"{name} norms the stream after its sum; only norms before the branches will do")
            if part.residual_scale is not None:
                raise refuse(f"{name} scales the stream, which moves its mean")
            if not part.part.input_layers or not part.part.output_layers:
                raise refuse(f"{name} holds {type(part.part).__name__}, which is not linear where it reads and writes")
            _check_norm(part.norm, name, refuse)
    for part in (backbone.embed, *_entries(backbone)):
        if not part.output_layers:
            raise refuse(f"{type(part).__name__} adds to the stream what is not linear in its weights")
    if not head.input_layers:
        raise refuse(f"its head {type(head).__name__} is not linear in the tokens")
    _check_norm(head.norm, "the head", refuse)


def _check_norm(norm: object, where: str, refuse: Any) -> None:
    if not isinstance(norm, LayerNorm):
        raise refuse(f"{where} has {'no norm' if norm is None else type(norm).__name__} where a layer norm would be")


def _layers(part: Part, names: tuple[str, ...]) -> Iterator[tuple[nn.Module, str, nn.Module | nn.Parameter]]:
    """Owner, name and layer (or table) of each path."""
    for path in names:
        owner, _, leaf = path.rpartition(".")
        module = part.get_submodule(owner)
        yield module, leaf, getattr(module, leaf)


def _parameter(old: Tensor, value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(old.dtype).contiguous(), requires_grad=old.requires_grad)


def map_output(part: Part, matrix: Tensor) -> None:
    """The part gives ``matrix y`` in place of ``y``."""
    for owner, name, layer in _layers(part, part.output_layers):
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            matrix = matrix.to(layer.weight.device)
            weight = torch.tensordot(matrix, layer.weight.double(), dims=1)
            layer.weight = _parameter(layer.weight, weight)
            if layer.bias is not None:
                layer.bias = _parameter(layer.bias, matrix @ layer.bias.double())
            if isinstance(layer, nn.Linear):
                layer.out_features = len(matrix)
            else:
                layer.out_channels = len(matrix)
        else:
            assert isinstance(layer, nn.Parameter)
            setattr(owner, name, _parameter(layer, layer.double() @ matrix.T.to(layer.device)))


def map_input(part: Part, matrix: Tensor) -> None:
    """The part takes ``z`` where it took ``matrix z``."""
    for owner, name, layer in _layers(part, part.input_layers):
        if isinstance(layer, nn.Linear):
            layer.weight = _parameter(layer.weight, layer.weight.double() @ matrix.to(layer.weight.device))
            layer.in_features = matrix.shape[1]
        else:
            assert isinstance(layer, nn.Parameter)
            setattr(owner, name, _parameter(layer, layer.double() @ matrix.to(layer.device)))


def _scale_input(part: Part, scale: Tensor, shift: Tensor | None) -> None:
    for owner, name, layer in _layers(part, part.input_layers):
        if isinstance(layer, nn.Linear):
            scale_input(layer, scale, shift)
        else:
            assert isinstance(layer, nn.Parameter)
            if shift is not None:
                raise UserError(f"{type(part).__name__} has no bias that could take that of the layer norm before it.")
            setattr(owner, name, _parameter(layer, layer * scale))


def _scale_output(part: Part, scale: Tensor) -> None:
    for owner, name, layer in _layers(part, part.output_layers):
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            scale_output(layer, scale)
        else:
            assert isinstance(layer, nn.Parameter)
            setattr(owner, name, _parameter(layer, layer * scale))
