"""A chain of parts is their composition, and as careful as they are."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.composites import PartChain


def test_a_chain_is_the_composition_of_its_parts():
    chain = PartChain(8, parts=(part("depthwise_convolution", kernel=3), part("layer_norm"), part("mlp")))
    x = torch.randn(2, 5, 6, 8)
    convolution, norm, mlp = chain.parts
    assert torch.equal(chain(x), mlp(norm(convolution(x))))


def test_the_expected_grid_reaches_the_parts():
    chain = build_part(part("chain", parts=(part("spatial_linear"),)), 8, grid=(5, 6))
    assert chain.parts[0].places == 30


def test_a_fact_that_one_part_would_ignore_is_refused():
    context = Context(mask=torch.ones(2, 4, 4, dtype=torch.bool))
    PartChain(8, parts=(part("depthwise_convolution"), part("mlp"))).check_context(context)
    PartChain(8, parts=(part("layer_norm"), part("mlp"))).check_context(context)
    with pytest.raises(UserError, match="Chain does not use mask"):
        PartChain(8, parts=(part("mlp"), part("random_mixing", grid=(4, 4)))).check_context(context)


def test_it_promises_what_all_its_parts_promise():
    promises = PartChain(8, parts=(part("layer_norm"), part("mlp"))).promises
    assert promises.per_token
    assert promises.any_grid
    promises = PartChain(8, parts=(part("spatial_linear"), part("mlp")), grid=(4, 4)).promises
    assert not promises.per_token
    assert not promises.any_grid


def test_an_empty_chain_is_refused():
    with pytest.raises(UserError, match="at least one part"):
        PartChain(8, parts=())
