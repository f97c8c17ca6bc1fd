"""Samplers follow diffusers' schedulers, and a drawing is what its seed, labels and guidance make it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from formwright.catalog.reference import images, reference_figures, sample
from formwright.errors import UserError
from formwright.inference import samplers
from formwright.inference.samplers import DDIM, Ancestral, Euler, Heun, Sampler, draw
from formwright.models import Network, create_model
from formwright.nn.functional.diffusion import NoiseSchedule
from tests.conformance.instances import randomise

TRAJECTORIES = reference_figures("dit")["functions"]["trajectories"]


def answer(x: Tensor, step: float, *, learned: bool = False) -> Tensor:
    """What the figures were made with: no network, but something that depends on all that it is given."""
    at = torch.tensor(step, dtype=torch.float64)
    noise = torch.tanh(0.7 * x) * (1 + 0.3 * torch.sin(at / 70))
    return torch.cat([noise, torch.cos(x + at / 50)], dim=1) if learned else noise


def sampler_of(figures: dict[str, Any]) -> Sampler:
    options = {name: figures[name] for name in ("steps", "eta", "clip") if name in figures}
    if "schedule" in figures:
        options["schedule"] = NoiseSchedule(figures["schedule"], figures["schedule_steps"])
    return getattr(samplers, figures["sampler"])(**options)


@pytest.mark.parametrize("figures", TRAJECTORIES, ids=lambda f: f"{f['sampler']}-{f.get('schedule', 'flow')}")
def test_trajectories_are_those_of_diffusers(figures: dict[str, Any]) -> None:
    sampler = sampler_of(figures)
    random = np.random.RandomState(6)
    scale = 1 if "schedule" in figures else 1000
    x = sampler(
        lambda x, time: answer(x, scale * time, learned=figures.get("learned", False)),
        torch.from_numpy(images((3, 2, 4, 4), 5)),
        lambda like: torch.from_numpy(random.standard_normal(tuple(like.shape))),
    )
    ours = np.array(sample(x.numpy()))
    assert np.abs(ours - figures["values"]).max() <= 1e-9 * figures["std"]


@pytest.mark.parametrize("kind", [Euler, Heun])
def test_a_flow_to_one_point_arrives_there(kind: type[Euler]) -> None:
    """Straight lines are followed exactly, whatever the number of steps."""
    noise, point = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    asked = []

    def predict(x: Tensor, time: float) -> Tensor:
        asked.append(time)
        return noise - point

    for steps in (1, 7):
        torch.testing.assert_close(kind(steps)(predict, noise, torch.randn_like), point)
    assert len(asked) == (8 if kind is Euler else 14)
    assert max(asked) == 1
    assert min(asked) > 0


def test_heun_is_of_second_order() -> None:
    def curve(x: Tensor, time: float) -> Tensor:  # x(t) = x(1) exp((t³ - 1) / 3)
        return time**2 * x

    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    exact = torch.exp(torch.tensor(-1 / 3, dtype=torch.float64))
    errors = {
        kind: [abs(float(kind(n)(curve, x, torch.randn_like) - exact)) for n in (20, 40)] for kind in (Euler, Heun)
    }
    assert 1.8 < errors[Euler][0] / errors[Euler][1] < 2.2
    assert 3.6 < errors[Heun][0] / errors[Heun][1] < 4.8


def test_a_known_noise_is_taken_out_in_any_number_of_steps() -> None:
    """Where every guess of the clean sample is right, DDIM and the ancestral sampler end at it."""
    schedule = NoiseSchedule("cosine", 50)
    signal = schedule.signal()
    clean = torch.randn(2, 1, 3, 3, dtype=torch.float64)

    def predict(x: Tensor, step: float) -> Tensor:
        share = float(signal[int(step)])
        return (x - share**0.5 * clean) / (1 - share) ** 0.5

    for steps in (1, 7, 50):
        for sampler in (DDIM(schedule, steps), DDIM(schedule, steps, eta=1.0), Ancestral(schedule, steps)):
            drawn = sampler(predict, torch.randn_like(clean), torch.randn_like)
            torch.testing.assert_close(drawn, clean, rtol=1e-6, atol=1e-6)


def small(**changes: Any) -> Network:
    options = {"dim": 16, "depth": 1, "heads": 2, "classes": 3, "channels": 1, "image_size": 4} | changes
    torch.manual_seed(0)
    model = create_model("dit_s_2", **options).eval()
    randomise(model)
    return model


FEW = DDIM(NoiseSchedule("linear", 1000), 3, clip=1.0)
NOISY = Ancestral(NoiseSchedule("linear", 1000), 3, clip=1.0)


def test_a_seed_decides_what_is_drawn() -> None:
    model, labels = small(learned_variance=False), torch.tensor([0, 2])
    first = draw(model, NOISY, labels, seed=1)
    assert first.shape == (2, 1, 4, 4)
    assert torch.equal(first, draw(model, NOISY, labels, seed=1))
    assert not torch.equal(first, draw(model, NOISY, labels, seed=2))
    assert not torch.equal(first, draw(model, NOISY, labels.flip(0), seed=1))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("sampler", [FEW, NOISY])
def test_guidance_is_two_conditions_in_one_batch(sampler: Sampler, learned: bool) -> None:
    """The same as asking for each by itself; at 0 the class counts nothing, at 1 it is the plain answer."""
    model, labels = small(learned_variance=learned).double(), torch.tensor([0, 2, 1])
    calls: list[int] = []
    handle = model.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    guided = draw(model, sampler, labels, guidance=2.5, seed=3)
    handle.remove()
    assert calls == [6, 6, 6]
    rest = 1 if learned else 0

    class Apart(torch.nn.Module):
        inputs, specification = model.inputs, model.specification

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input: Tensor, time: Tensor, label: Tensor) -> Tensor:
            told, untold = model(input, time, label), model(input, time, torch.full_like(label, 3))
            mixed = untold[:, :1] + 2.5 * (told[:, :1] - untold[:, :1])
            return torch.cat([mixed, told[:, 1 : 1 + rest]], dim=1)

    torch.testing.assert_close(guided, draw(Apart(), sampler, labels, seed=3), rtol=1e-9, atol=1e-9)  # type: ignore[arg-type]
    none = torch.full((3,), 3)
    if not learned or sampler is FEW:  # learned variances are those with the class
        torch.testing.assert_close(draw(model, sampler, labels, guidance=0.0), draw(model, sampler, none))
    near = draw(model, sampler, labels, guidance=1 + 1e-9)
    torch.testing.assert_close(near, draw(model, sampler, labels), rtol=1e-6, atol=1e-6)


def test_without_labels_all_are_of_no_class() -> None:
    model = small(learned_variance=False)
    assert torch.equal(draw(model, FEW, count=2), draw(model, FEW, torch.tensor([3, 3])))
    assert draw(small(classes=None), FEW, count=3).shape == (3, 1, 4, 4)
    flow = small(end=1.0, learned_variance=False)
    assert draw(flow, Euler(2), torch.tensor([1]), guidance=3.0).shape == (1, 1, 4, 4)


def test_a_model_that_is_in_training_draws_as_in_evaluation() -> None:
    model, labels = small(drop_path=0.5, depth=2), torch.tensor([0, 1])
    expected = draw(model, FEW, labels)
    assert torch.equal(draw(model.train(), FEW, labels), expected)
    assert model.training


@pytest.mark.parametrize("kind", [Ancestral, DDIM, Euler, Heun])
def test_a_sampler_with_zero_steps_is_refused(kind: type) -> None:
    for steps in (0, -1, 2.5):
        with pytest.raises(UserError, match=f"a whole number of steps, at least one, and {steps} were asked for"):
            kind(steps=steps)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DDIM(NoiseSchedule(steps=10), 11), "at most the 10 steps"),
        (lambda: DDIM(eta=1.5), "eta lies between 0 and 1"),
        (lambda: NoiseSchedule("lineal"), "linear"),
        (lambda: NoiseSchedule(steps=0), "at least one step"),
        (lambda: draw(small(null_class=False), FEW, torch.tensor([0]), guidance=2.0), "null_class"),
        (lambda: draw(small(classes=None), FEW, guidance=2.0), "Guidance compares"),
        (lambda: draw(small(), FEW, count=2, guidance=2.0), "give labels"),
        (lambda: draw(small(), FEW, torch.tensor([4])), "0 to 2, or 3 for no class"),
        (lambda: draw(small(null_class=False), FEW, count=1), "needs `label`"),
        (lambda: draw(small(classes=None), FEW, torch.tensor([0])), "without classes"),
        (lambda: draw(small(), Euler(2), torch.tensor([0])), "ends at 1000 and that of the sampler at 1"),
        (lambda: draw(small(end=1.0), Heun(2), count=1), "without learned variances"),
        (lambda: draw(small(), FEW, count=0), "At least one sample"),
        (lambda: draw(create_model("vit_tiny_patch16_224", depth=1), FEW), "no denoiser"),
    ],
)
def test_what_cannot_be_drawn_is_said(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
