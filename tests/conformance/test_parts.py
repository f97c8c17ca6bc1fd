"""Every registered part keeps the promises of its class; see :class:`formwright.nn.parts.Promises`."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import PARTS, Context, Part, PartSpec
from formwright.nn.context import FACTS, OFFERS, split_prefix
from tests.conformance.instances import (
    CHECKS,
    CLASSES,
    Case,
    build,
    call,
    cases,
    cases_and_grids,
    exempt,
    in_type,
    only_offers,
    other_grid,
    sample_of,
    tokens,
)

each_case = pytest.mark.parametrize("case", cases(), ids=str)
# Mapping what has no rule of its own is slow, which PyTorch says of each such operation.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
each_case_and_grid = pytest.mark.parametrize(("case", "grid"), cases_and_grids())


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def expected_shape(case: Case, module: torch.nn.Module, x: Tensor, y: Tensor, context: Context) -> list[tuple]:
    """Shapes that an output may have: that of the input, or what parts that are no mixers say they make of it."""
    if "tokens" not in PARTS[case.name].promises.exemptions:
        return [tuple(x.shape)]
    if y.ndim == 2:
        return [(x.shape[0], CLASSES), (x.shape[0], case.dim)]
    if PARTS[case.name].promises.exemptions["tokens"] == "gives values of a grid":
        grid = context.grid or x.shape[1:-1]
        return [(x.shape[0], CLASSES, *module.output_grid(tuple(grid)))]  # type: ignore[operator]
    if PARTS[case.name].promises.exemptions["tokens"] == "gives a forecast":  # whose steps are the classes
        return [(x.shape[0], CLASSES, case.options.get("variates", x.shape[1]))]
    if PARTS[case.name].promises.exemptions["tokens"] == "gives a picture":
        return [(x.shape[0], CLASSES, *(side * module.scale for side in x.shape[1:-1]))]  # type: ignore[operator]
    if y.shape[-1] == CLASSES:
        return [(*x.shape[:-1], CLASSES)]
    if context.grid is not None:
        return [(x.shape[0], context.prefix + math.prod(context.grid), case.dim)]
    grid = x.shape[2:] if case.channels_first else x.shape[1:-1]
    return [(x.shape[0], *module.output_grid(tuple(grid)), case.dim)]  # type: ignore[operator]


@each_case
def test_exemptions_are_of_known_checks(case: Case) -> None:
    exemptions = PARTS[case.name].promises.exemptions
    assert {check.partition(":")[0] for check in exemptions} <= CHECKS, f"the suite has the checks {sorted(CHECKS)}"
    assert all(exemptions.values()), "an exemption carries its reason"


@each_case_and_grid
def test_shapes_for_odd_sizes_and_one_sample(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    grids = [grid]
    if module.promises.any_grid and not case.options.get("grid"):
        grids.append(other_grid(case, grid))
    for size in grids:
        for batch in (2, 1):
            x, context = tokens(case, size, batch)
            before = x.clone()
            y, after = call(module, x, context)
            assert tuple(y.shape) in expected_shape(case, module, x, y, after)
            assert torch.isfinite(y).all()
            assert torch.equal(x, before), "the input was changed in place"


@each_case_and_grid
def test_no_samples_give_none(case: Case, grid: tuple[int, ...]) -> None:
    for training in (True, False):
        module = build(case, grid).train(training)
        before = {name: buffer.clone() for name, buffer in module.named_buffers() if buffer.is_floating_point()}
        x, context = tokens(case, grid, batch=0)
        contexts = [context]
        if "mask" in module.uses:
            contexts.append(context.replace(mask=torch.ones(places(case, x), dtype=torch.bool)))
        for each in contexts:
            leaf = x.clone().requires_grad_()
            y, after = call(module, leaf, each)
            assert tuple(y.shape) in expected_shape(case, module, x, y, after)
            if y.requires_grad or "gradients" not in module.promises.exemptions:
                y.sum().backward()
                assert leaf.grad is not None
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert not any(gradient.any() for gradient in gradients)
        assert all(torch.equal(buffer, dict(module.named_buffers())[name]) for name, buffer in before.items())


@each_case_and_grid
def test_no_tokens_give_none_or_a_sentence(case: Case, grid: tuple[int, ...]) -> None:
    """A mixer gives none for none; what makes one vector of all, or tokens of an input, says that there is nothing."""
    module = build(case, grid)
    for nothing in {(0, *grid[1:]), (*grid[:-1], 0)}:
        x, context = tokens(case, nothing)
        if not module.promises.any_grid or case.options.get("grid") or "tokens" in module.promises.exemptions:
            try:
                y, after = call(module, x, context)
            except UserError:
                continue
        else:
            x.requires_grad_()
            y, after = call(module, x, context)
            y.sum().backward()
        assert tuple(y.shape) in expected_shape(case, module, x, y, after)


@each_case_and_grid
def test_memory_format_of_the_input_does_not_matter(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    x, context = tokens(case, grid)
    transposed = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assert_close(call(module, transposed, context)[0], call(module, x, context)[0])


@each_case_and_grid
def test_number_types(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    x, context = tokens(case, grid)
    with torch.inference_mode():
        expected = call(module, x, context)[0]
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):
            if dtype is torch.bfloat16 and "bfloat16" in module.promises.exemptions:
                continue
            y = call(copy.deepcopy(module).to(dtype), x.to(dtype), in_type(context, dtype))[0]
            assert y.dtype is dtype
            scale = expected.std().clamp(min=1e-3)
            assert (y.double() - expected).abs().mean() <= tolerance * scale


@each_case
def test_gradients_are_finite_and_reach_every_parameter(case: Case) -> None:
    exempt(case, "gradients")
    module = build(case, case.grids[0])
    x, context = tokens(case, case.grids[0])
    x.requires_grad_()
    for training in (True, False):
        module.train(training).zero_grad()
        x.grad = None
        y, _ = call(module, x, context)
        (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)).sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        given = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        assert all(torch.isfinite(gradient).all() for gradient in given.values())
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
    least = 1e-10 * max((gradient.abs().max().item() for gradient in given.values()), default=0.0)
    unreached = {name for name, gradient in gradients.items() if gradient is None or gradient.abs().max() <= least}
    assert unreached == exempt_parameters(module), "no gradient reaches these parameters"


def exempt_parameters(module: Part) -> set[str]:
    """Parameters that the part itself, or a part in it, says no gradient reaches."""
    names = set()
    for path, inner in module.named_modules():
        if isinstance(inner, Part):
            own = [check.partition(":") for check in inner.promises.exemptions]
            names |= {f"{path}.{name}" for check, _, name in own if check == "gradients" and name}
            if ("gradients", "", "") in own:
                names |= {f"{path}.{name}" for name, _ in inner.named_parameters()}
    return {name.removeprefix(".") for name in names}


@each_case_and_grid
def test_a_sample_does_not_depend_on_its_neighbours(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    if not module.promises.batch_invariant:
        pytest.skip("the part does not promise it")
    x, context = tokens(case, grid, batch=3)
    with torch.inference_mode():
        whole = call(module, x, context)[0]
        for index in range(3):
            alone = call(module, x[index : index + 1], sample_of(context, index))[0]
            assert_close(alone, whole[index : index + 1])


def places(case: Case, x: Tensor) -> torch.Size:
    """The shape of a mask of ``x``: without its channels."""
    return torch.Size((x.shape[0], *x.shape[2:])) if case.channels_first else x.shape[:-1]


def per_channel(case: Case, mask: Tensor) -> Tensor:
    return mask[:, None] if case.channels_first else mask[..., None]


def some_mask(shape: torch.Size, prefix: int) -> Tensor:
    """True for about two tokens of three, and for all that have no place."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.66
    mask.view(shape[0], -1)[:, : prefix + 1] = True
    assert not mask.all()
    return mask


@each_case_and_grid
def test_masked_tokens_change_nothing(case: Case, grid: tuple[int, ...]) -> None:
    exempt(case, "mask")
    module = build(case, grid)
    if "mask" not in module.uses:
        pytest.skip("the part does not use a mask")
    x, context = tokens(case, grid)
    mask = some_mask(places(case, x), case.prefix)
    masked = context.replace(mask=mask)
    altered = torch.where(per_channel(case, mask), x, 3 * torch.randn_like(x))
    y, after = call(module, x, masked)
    z, _ = call(module, altered, masked)
    if y.ndim == 2:
        assert_close(y, z)
    else:
        assert after.mask is not None, "a part that is given a mask says which of its outputs are real"
        assert after.mask.shape == y.shape[:-1]
        assert_close(y[after.mask], z[after.mask])
    everything = context.replace(mask=torch.ones_like(mask))
    assert_close(call(module, x, everything)[0], call(module, x, context)[0])


@each_case_and_grid
def test_masked_tokens_change_nothing_in_training(case: Case, grid: tuple[int, ...]) -> None:
    """Neither outputs of real tokens, nor gradients, nor what is kept of the batch's statistics."""
    exempt(case, "mask")
    module = build(case, grid)
    if "mask" not in module.uses and not module.promises.per_token:
        pytest.skip("the part refuses a mask")
    x, context = tokens(case, grid, batch=3)
    mask = some_mask(places(case, x), case.prefix)
    altered = torch.where(per_channel(case, mask), x, 3 * torch.randn_like(x))
    results = []
    for each in (x, altered):
        module = build(case, grid).train()
        torch.manual_seed(0)
        y, after = call(module, each.clone().requires_grad_(), context.replace(mask=mask))
        y = y if y.ndim == 2 else y[mask if after.mask is None else after.mask]
        y.sin().sum().backward()
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        results.append([y, *gradients.values(), *module.buffers()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@each_case_and_grid
def test_mapped_over_inputs_it_gives_what_a_loop_gives(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    inputs = torch.stack([tokens(case, grid, seed=seed)[0] for seed in range(3)])
    context = tokens(case, grid)[1]
    contexts = [context]
    if "mask" in module.uses:
        contexts.append(context.replace(mask=some_mask(places(case, inputs[0]), case.prefix)))
    for each in contexts:

        def output(x: Tensor, context: Context = each) -> Tensor:
            return call(module, x, context)[0]

        assert_close(torch.vmap(output)(inputs), torch.stack([output(x) for x in inputs]))


@each_case_and_grid
def test_padding_is_as_if_it_were_not_there(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    promises = module.promises
    if "padding" in promises.exemptions:
        pytest.skip(promises.exemptions["padding"])
    if "mask" not in module.uses or case.prefix or not promises.any_grid or promises.multiple > 1:
        pytest.skip("the part uses no mask, or takes this grid only")
    if promises.causal and len(grid) > 1:
        pytest.skip("the order of the tokens goes row by row, so that padding lies between them")
    x, context = tokens(case, grid)
    larger, _ = tokens(case, tuple(side + 2 for side in grid), seed=3)
    corner = (slice(None), *(slice(side) for side in grid))
    inner = (slice(None), *corner) if case.channels_first else corner
    larger[inner] = x
    mask = torch.zeros(places(case, larger), dtype=torch.bool)
    mask[corner] = True
    y, after = call(module, larger, only_offers(context, mask=mask))
    expected = call(module, x, only_offers(context))[0]
    if y.ndim == 2:
        assert_close(y, expected)
    elif after.flat:
        assert_close(split_prefix(y, after)[1][corner], split_prefix(expected, after.replace(grid=grid))[1])
    else:
        corner = (slice(None), *(slice(side) for side in expected.shape[1:-1]))
        assert_close(y[corner], expected)
        if y.shape != larger.shape:
            real = torch.zeros(y.shape[:-1], dtype=torch.bool)
            real[corner] = True
            assert after.mask is not None
            assert torch.equal(after.mask, real), "as many tokens are real as there are without padding"


def context_with(field: str) -> Context:
    values = {
        "mask": torch.ones(2, 7, dtype=torch.bool),
        "prefix": 1,
        "grid": (7,),
        "positions": torch.zeros(2, 7, 1),
        "types": torch.zeros(2, 7, dtype=torch.int64),
        "token_size": torch.ones(2, 7),
        "condition": torch.zeros(2, 4),
        "memory": torch.zeros(2, 3, 4),
        "memory_mask": torch.ones(2, 3, dtype=torch.bool),
        "memory_grids": ((1, 3),),
        "segments": torch.zeros(2, 7, dtype=torch.int64),
        "distance_bias": torch.zeros(7, 8),
        "statistics": torch.ones(2, 1, 2),
        "keys": torch.zeros(2, 7, 4),
    }
    return Context(**{field: values[field]})  # type: ignore[arg-type]


@each_case
def test_context_that_is_not_used_is_refused(case: Case) -> None:
    exempt(case, "context")
    module = build(case, case.grids[0])
    for field in FACTS + OFFERS:
        honoured = field in FACTS and module.promises.per_token
        if honoured or field in module.uses:
            module.check_context(context_with(field))
        else:
            with pytest.raises(UserError, match=field):
                module.check_context(context_with(field))


@each_case_and_grid
def test_no_token_depends_on_what_the_part_promises_not_to_use(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    if not (module.promises.causal or module.promises.per_token):
        pytest.skip("the part makes no such promise")
    x, context = tokens(case, grid)
    length = math.prod(grid)
    changed = x.clone().flatten(1, -2)
    changed[:, length // 2] += 1
    y = call(module, x, context)[0].flatten(1, -2)
    z = call(module, changed.view(x.shape), context)[0].flatten(1, -2)
    assert not torch.equal(y, z)
    assert_close(y[:, : length // 2], z[:, : length // 2])
    if module.promises.per_token:
        assert_close(y[:, length // 2 + 1 :], z[:, length // 2 + 1 :])


@each_case
def test_state_and_specification_round_trip(case: Case) -> None:
    spec = PartSpec(case.name, case.options)
    again = PartSpec(**json.loads(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    grid = case.grids[0]
    original = build(case, grid, seed=0)
    x, context = tokens(case, grid)
    copied = build(dataclasses.replace(case, options=again.options), grid, seed=1)
    call(copied, x, context)  # whatever a part keeps from a first call must not outlive its weights
    copied.load_state_dict(original.state_dict())
    assert torch.equal(call(original, x, context)[0], call(copied, x, context)[0])


@each_case
def test_what_training_changes_is_in_the_state(case: Case) -> None:
    """A training that is continued from a checkpoint has nothing else: statistics are persistent buffers."""
    grid = case.grids[0]
    trained, resumed = build(case, grid, seed=0).train(), build(case, grid, seed=1).train()
    x, context = tokens(case, grid)
    for _ in range(2):
        call(trained, x, context)
    resumed.load_state_dict(trained.state_dict())
    outputs = []
    for module in (trained, resumed):
        torch.manual_seed(7)
        outputs.append(call(module, x, context)[0])
    assert torch.equal(outputs[0], outputs[1])
    after = resumed.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in trained.state_dict().items())


@each_case
def test_the_same_seed_gives_the_same_part(case: Case) -> None:
    grid = case.grids[0]
    outputs = []
    for _ in range(2):
        module = build(case, grid, seed=5, randomised=False).train()
        x, context = tokens(case, grid)
        torch.manual_seed(7)
        outputs.append(call(module, x, context)[0])
    assert torch.equal(outputs[0], outputs[1])


@each_case_and_grid
def test_another_grid_is_refused_where_the_part_is_bound_to_one(case: Case, grid: tuple[int, ...]) -> None:
    module = build(case, grid)
    if module.promises.any_grid and module.promises.multiple == 1:
        pytest.skip("the part takes any grid")
    others = [tuple(side + 1 for side in grid)] if module.promises.multiple > 1 else []
    if not module.promises.any_grid:
        others.append(other_grid(case, grid))
    for other in others:
        x, context = tokens(case, other)
        with pytest.raises(UserError, match=str(grid[0] if not module.promises.any_grid else module.promises.multiple)):
            call(module, x, context)


@pytest.mark.skipif(os.environ.get("FORMWRIGHT_CHECK_SHAPES") != "1", reason="shapes are not checked in this process")
def test_checking_shapes_catches_a_wrong_one() -> None:
    with pytest.raises(TypeError, match="channels"):
        split_prefix(torch.zeros(2, 3), Context(grid=(3,)))
