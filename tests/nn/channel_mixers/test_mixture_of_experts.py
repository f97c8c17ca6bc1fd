from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from formwright.deployment.export import export_onnx
from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.auxiliary import collect
from formwright.nn.channel_mixers.mixture_of_experts import MixtureOfExperts
from formwright.nn.functional.routing import balance_loss, load_shares


def mixture(**options) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(6, **{"experts": 4, "active": 2, **options}).double()


def naive(module: MixtureOfExperts, x: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    rows = []
    for token in x.flatten(0, -2):
        p = module.router(token).softmax(0).tolist()
        best = sorted(range(len(p)), key=lambda expert: -p[expert])[: module.active]
        rows.append(sum(p[expert] * module.experts[expert](token[None])[0] for expert in best))
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("active", [1, 2, 4])
def test_it_is_the_weighted_sum_of_the_most_probable_experts(active):
    module, x = mixture(active=active), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x), naive(module, x), rtol=1e-12, atol=1e-12)


def test_all_tokens_by_all_experts_gives_values_and_gradients_of_the_chosen_ones():
    module, x = mixture(), torch.randn(2, 9, 6, dtype=torch.float64)
    tokens = x.flatten(0, 1)
    weights, chosen = module.router(tokens).softmax(-1).topk(2)
    results = []
    for mix in (module._mix_chosen, module._mix_all):
        y = mix(tokens, weights, chosen)
        results.append((y, torch.autograd.grad(y.square().sum(), list(module.parameters()), retain_graph=True)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_it_maps_over_samples_and_counts_on_shapes_alone():
    module, x = mixture(), torch.randn(3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(vmap(module)(x), module(x), rtol=1e-12, atol=1e-12)
    assert copy.deepcopy(module).to("meta")(x.to("meta")).shape == x.shape


def test_an_expert_that_nobody_chose_gets_zeros_for_a_gradient():
    module = mixture(active=1)
    with torch.no_grad():
        module.router.weight.zero_()
        module.router.weight[2].fill_(1)
    module(torch.ones(1, 4, 6, dtype=torch.float64)).sum().backward()
    gradients = [expert.fc1.weight.grad for expert in module.experts]
    assert gradients[2].abs().sum() > 0
    assert all(gradients[other] is not None and not gradients[other].any() for other in (0, 1, 3))


def test_balance_is_its_formula():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]])
    chosen = p.argmax(1, keepdim=True)
    assert load_shares(chosen, 3).tolist() == [0.75, 0, 0.25]
    assert balance_loss(p, chosen).item() == pytest.approx(3 * (0.75 * 1.8 / 4 + 0.25 * 1.25 / 4))
    real = torch.tensor([True, True, True, False])
    assert load_shares(chosen, 3, real).tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert balance_loss(p, chosen, real).item() == pytest.approx(balance_loss(p[:3], chosen[:3]).item())


def test_balance_is_one_where_all_are_chosen_alike_and_at_most_experts_over_active():
    chosen = torch.tensor([[0, 1], [2, 3]])
    assert balance_loss(torch.full((2, 4), 0.25), chosen).item() == 1
    one_sided = torch.tensor([[0.5, 0.5, 0, 0]]).expand(2, 4)
    assert balance_loss(one_sided, torch.tensor([[0, 1], [0, 1]])).item() == 2
    assert balance_loss(torch.rand(0, 4), chosen[:0], torch.ones(0, dtype=torch.bool)).item() == 0


def test_it_reports_its_balance_over_real_tokens():
    module, x = mixture(), torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    with collect(module) as auxiliary:
        y = module(x, Context(mask=mask))
    assert torch.equal(y, module(x))
    p = module.router(x[mask]).softmax(-1)
    chosen = p.topk(2).indices
    torch.testing.assert_close(auxiliary.loss("balance"), balance_loss(p, chosen))
    assert auxiliary.statistic("busiest_expert") == load_shares(chosen, 4).max()
    (gradient,) = torch.autograd.grad(auxiliary.loss("balance"), module.router.weight)
    assert gradient.abs().sum() > 0


def test_compiled_it_reports_the_same():
    module, x = mixture(), torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.rand(2, 5) < 0.7
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for context in (Context(), Context(mask=mask)):
        found = []
        for run in (module, compiled):
            with collect(module) as auxiliary:
                run(x, context)
            found.append((auxiliary.loss("balance"), auxiliary.statistic("busiest_expert")))
        torch.testing.assert_close(found[0], found[1])


def test_it_exports_to_onnx_for_any_number_of_tokens_in_a_batch(tmp_path):
    model = nn.Sequential(mixture().float())
    assert export_onnx(model, tmp_path / "experts.onnx", torch.zeros(1, 5, 6)) < 1e-5


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match=r"between 1 and all 4 experts, got active = 5"):
        mixture(active=5)
    with pytest.raises(UserError, match="'attention' does not"):
        mixture(expert=part("attention", heads=2))
    assert isinstance(build_part(part("mixture_of_experts", expert=part("glu", hidden=3)), 6), MixtureOfExperts)
