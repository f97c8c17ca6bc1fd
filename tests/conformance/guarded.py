"""Training steps of every convolution of the library, each named before it begins: for a process that may die of one.

Run by ``test_guarded.py`` with a guard around memory. The forms are those of all registered variants, on few channels
and on sides on which a write beyond the end of a buffer leaves its block; and all registered parts and small models
that hold a convolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from formwright.models import MODELS, create_model, empty_copy, model_specification
from formwright.nn.convolution import CONVOLUTIONS, depthwise_layer
from formwright.nn.specification import ChainSpec, ImageInput, NetworkSpec
from tests.conformance.instances import build, call, cases_and_grids, inputs, smallest_variants, tiny_model, tokens

Step = Callable[[], Tensor]
CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Channels in and out: where there are fewer than a vector register holds, exactly as many, and more.
WIDTHS = ((3, 16), (8, 8), (8, 16), (12, 24), (16, 16), (24, 40))
#: A side for each number of axes.
SIDES = {1: 784, 2: 56, 3: 7}
TYPES = (torch.float32, torch.bfloat16)


@dataclasses.dataclass(frozen=True, order=True)
class Form:
    """What of a convolution chooses the routine that computes it, but for its widths."""

    kernel: int
    stride: int
    padding: int
    depthwise: bool


def shortened(specification: NetworkSpec) -> NetworkSpec:
    """With the first block of each stage alone, where it has a list of stages."""
    if not isinstance(specification, ChainSpec):
        return specification
    stages = tuple(dataclasses.replace(stage, blocks=stage.blocks[:1]) for stage in specification.stages)
    return dataclasses.replace(specification, stages=stages)


def forms() -> set[Form]:
    """Those of all registered models of pictures, whose stages consist of one kind of block each."""
    found = set()
    for name in MODELS:
        specification = model_specification(name)
        if not isinstance(next(iter(specification.inputs.values())), ImageInput):
            continue
        for layer in empty_copy(shortened(specification)).modules():
            if isinstance(layer, CONVOLUTION):
                square = (layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))
                found.add(Form(*square, depthwise=layer.groups > 1))
    return found


def layer(form: Form, widths: tuple[int, int], axes: int) -> nn.Module:
    if form.depthwise:
        return depthwise_layer(widths[0], form.kernel, stride=form.stride, dimensions=axes)
    return CONVOLUTIONS[axes](*widths, form.kernel, form.stride, form.padding)


def layers() -> Iterator[tuple[str, Step]]:
    for form in sorted(forms()):
        for axes, side in SIDES.items():
            if side + 2 * form.padding < form.kernel or (axes == 3 and form.kernel > 7):
                continue
            for widths in WIDTHS:
                for dtype in TYPES:
                    module = layer(form, widths, axes).to(dtype)
                    x = torch.randn(2, *[side] * axes, widths[0], dtype=dtype).movedim(-1, 1).requires_grad_()
                    yield f"{form} {axes}-D {widths} {dtype}", lambda module=module, x=x: module(x)


def parts() -> Iterator[tuple[str, Step]]:
    for parameters in cases_and_grids():
        case, grid = parameters.values
        part = build(case, grid).train()
        if not any(isinstance(module, CONVOLUTION) for module in part.modules()):
            continue
        x, context = tokens(case, grid)
        part, x = part.float(), x.float().requires_grad_()
        yield f"{case} on {grid}", lambda part=part, x=x, context=context: call(part, x, context)[0]


def models() -> Iterator[tuple[str, Step]]:
    for family, variant in smallest_variants().items():
        model = tiny_model(family, variant).float().train()
        images = inputs(model).float()
        yield f"{variant}, tiny", lambda model=model, images=images: model(images)
    large = create_model("resnet18", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), classes=5, image_size=224)
    images = torch.randn(4, 3, 224, 224)
    yield "resnet18, narrow, of 224 pixels", lambda: large.train()(images)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for steps in (layers, parts, models):
        for name, step in steps():
            print(name, flush=True)
            step().float().square().mean().backward()


if __name__ == "__main__":
    main()
