"""The layer: what stands where a plain dense or convolutional layer stood, and is cut, permuted and folded like it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.layers.plain import PLAIN, Form, Plain
from formwright.registry import Registry


class Layer(nn.Module, ABC):
    """Takes the place of a plain layer: ``Layer(plain, **options)``, registered in :data:`LAYERS`.

    Its options are plain values that JSON can hold. Built for a layer of the same shape it has the same tensors, by
    name and shape, whatever the weights are: so it is replayed when a model is loaded.

    Attributes:
        form: the plain layer without its weights.

    Raises:
        UserError: what it would take the place of is no plain layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.form = Form.of(layer)

    @abstractmethod
    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        """Where the plain layer's ``dimension`` of its tensor ``name`` (``weight``, ``bias``) lies in the own tensors.

        The entries of the dimension are the entries there, in the same order. So what a part declares of its plain
        layers holds for whatever took their place.

        Returns:
            Names of own tensors (one that is None may be named) and dimensions of theirs.

        Raises:
            UserError: the dimension cannot be cut or permuted.
        """

    @abstractmethod
    def effective_weight(self) -> Tensor:
        """The weight of the plain layer that computes the same, in its shape.

        Raises:
            UserError: there is no such layer.
        """

    @abstractmethod
    def effective_bias(self) -> Tensor | None:
        """The bias of the plain layer that computes the same.

        Raises:
            UserError: there is no such layer.
        """

    @torch.no_grad()
    def plain(self) -> Plain:
        """The plain layer that computes the same in inference.

        Raises:
            UserError: there is no such layer.
        """
        return self.form.build(self.effective_weight(), self.effective_bias())

    @property
    def merges(self) -> bool:
        """Whether folding a whole model makes it plain: what was put beside weights to train does."""
        return False

    @property
    def scalable(self) -> bool:
        """Whether :meth:`scale_input` and :meth:`scale_output` can be called: false where the layer has neither."""
        return False

    def scale_input(self, scale: Tensor, shift: Tensor | None = None) -> None:
        """Do in place what was done to ``scale * x + shift``, one value per channel; for dense layers only.

        Raises:
            UserError: the layer is not :attr:`scalable`.
        """
        raise self._not_scalable()

    def scale_output(self, scale: Tensor, shift: Tensor | None = None) -> None:
        """Give in place ``scale * y + shift`` where ``y`` was given, one value per channel.

        Raises:
            UserError: the layer is not :attr:`scalable`.
        """
        raise self._not_scalable()

    def _not_scalable(self) -> UserError:
        return UserError(
            f"{type(self).__name__} cannot take a value per channel into its weights; fold norms and scales before it "
            "is put in, or keep them."
        )

    def _size(self, dimension: int) -> int:
        name, place = self.locate("weight", dimension)[0]
        path, _, leaf = name.rpartition(".")
        return int(getattr(self.get_submodule(path), leaf).shape[place])

    @property
    def in_features(self) -> int:
        return self._size(1) * self.form.groups(self._size(0))

    @property
    def out_features(self) -> int:
        return self._size(0)

    #: What convolutions call them.
    in_channels = in_features
    out_channels = out_features


#: What edits may put in the place of a plain layer, by name.
LAYERS: Registry[Callable[..., Layer]] = Registry("layer", group="formwright.layers")


def locate(module: nn.Module, name: str, dimension: int, path: str = "") -> tuple[tuple[str, int], ...]:
    """Where the dimension of the tensor ``name`` lies in ``module``, which is called ``path``: see :class:`Layer`."""
    found = module.locate(name, dimension) if isinstance(module, Layer) else ((name, dimension),)
    return tuple((f"{path}.{own}".lstrip("."), place) for own, place in found)


def effective_weight(layer: nn.Module) -> Tensor:
    """The weight of a plain layer, or of the plain layer that computes what ``layer`` does.

    Raises:
        UserError: there is no such layer.
    """
    if isinstance(layer, Layer):
        return layer.effective_weight()
    assert isinstance(layer, PLAIN)
    return layer.weight


def effective_bias(layer: nn.Module) -> Tensor | None:
    """As :func:`effective_weight`, the bias."""
    if isinstance(layer, Layer):
        return layer.effective_bias()
    assert isinstance(layer, PLAIN)
    return layer.bias


def check_tensor(layer: Layer, name: str) -> None:
    """Refuse names that no plain layer has.

    Raises:
        UserError: ``name`` is neither ``weight`` nor ``bias``.
    """
    if name not in ("weight", "bias"):
        raise UserError(f"{type(layer).__name__} stands for a layer of weight and bias, and knows no {name!r}.")


def changed(old: Tensor, value: Tensor) -> nn.Parameter:
    """``value`` as the parameter that takes the place of ``old``."""
    return nn.Parameter(value.contiguous(), requires_grad=old.requires_grad)
