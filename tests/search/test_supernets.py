"""The space of the choices of a network: what it offers, how they are drawn, and what they cost."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from formwright.compression import extract
from formwright.compression.costs import Skeleton
from formwright.errors import UserError
from formwright.measurement import count_macs
from formwright.models import Network, create_model
from formwright.models.choices import Choice, narrowed
from formwright.objectives import Batch, Classification, SandwichTraining, means
from formwright.search.supernets import ChoiceSpace, space_of
from formwright.training import Trainer
from tests.conformance.instances import tiny_network
from tests.training.test_phases import SameBatch
from tests.training.toy import toy_recipe

MLP = "backbone.stages.0.blocks.{}.branches.1.part"


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return create_model("cct_2_3x2_32", dim=32, heads=4, depth=2, classes=3, image_size=16).eval()


def test_sizes_are_shares_in_multiples_and_heads_are_whole(model: Network) -> None:
    space = space_of(model, {"heads": (0.3, 0.5, 1), "hidden": (0.2, 0.7, 1.0)}, multiple=8, drop=False)
    stem = ("backbone.embed", "hidden")
    assert {key: sizes for key, sizes in space.sizes.items() if key != stem} == {
        **{(f"backbone.stages.0.blocks.{block}.branches.0.part", "heads"): (1, 2, 4) for block in (0, 1)},
        **{(MLP.format(block), "hidden"): (8, 24, 32) for block in (0, 1)},
    }
    assert not space.branches
    whole = space_of(model)
    assert whole.sizes["backbone.embed", "residual"] == (8, 16, 24, 32)
    assert len(whole.branches) == 4


def test_every_size_and_branch_has_the_same_chance_and_a_seed_decides() -> None:
    space = ChoiceSpace({("a", "hidden"): (1, 2, 4), ("b", "heads"): (1, 2)}, ("c",))
    drawn = [space.sample(random.Random(seed)) for seed in range(600)]
    counts = Counter(choice.sizes["a", "hidden"] for choice in drawn)
    assert all(abs(counts[size] - 200) < 45 for size in (1, 2, 4))
    assert abs(sum("c" in choice.dropped for choice in drawn) - 300) < 50
    assert drawn == [space.sample(random.Random(seed)) for seed in range(600)]
    assert len(set(drawn)) == 12


def test_a_mutation_changes_some_and_a_crossing_takes_from_both() -> None:
    space = ChoiceSpace({(str(index), "hidden"): tuple(range(1, 101)) for index in range(50)}, ("x", "y"))
    first, second = (space.sample(random.Random(seed)) for seed in (0, 1))
    assert space.mutate(first, random.Random(2), rate=0.0) == first
    changed = space.mutate(first, random.Random(2), rate=0.2)
    assert 2 <= sum(changed.sizes[key] != size for key, size in first.sizes.items()) <= 20
    child = space.cross(first, second, random.Random(3))
    taken = [child.sizes[key] == first.sizes[key] for key in space.sizes]
    assert all(child.sizes[key] in (first.sizes[key], second.sizes[key]) for key in space.sizes)
    assert 10 <= sum(taken) <= 40
    assert child.dropped <= first.dropped | second.dropped
    assert space.cross(Choice(), Choice(), random.Random(0)) == space.largest


def test_what_the_network_offers_is_still_taken_without_the_branches_that_may_be_dropped() -> None:
    network = tiny_network("t5")
    space = space_of(network)
    cross = [
        path
        for path, module in network.named_modules()
        if path.startswith("decoder.") and path.endswith(".part") and "memory" in getattr(module, "uses", ())
    ]
    assert cross
    kept = [path for path in cross if path.removesuffix(".part") not in space.branches]
    assert len(kept) == 1
    extract(network, space.smallest)
    everything = frozenset({*space.branches, kept[0].removesuffix(".part")})
    with pytest.raises(UserError, match="uses the memory, memory_mask that it is given"):
        Choice({}, everything).check(network)
    assert network(**network.example(1)).shape[0] == 1, "what was refused has left nothing behind"


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_counted_without_building_weights(model: Network, seed: int) -> None:
    choice = space_of(model).sample(random.Random(seed))
    smaller = extract(model, choice)
    assert Skeleton(model, macs=False).cost(choice) == smaller.parameter_count()
    assert Skeleton(model, macs=True).cost(choice) == count_macs(smaller, torch.zeros(1, 3, 16, 16))


def test_a_sandwich_trains_the_largest_the_smallest_and_those_between() -> None:
    torch.manual_seed(0)
    model = create_model("cct_2_3x2_32", dim=16, heads=2, depth=2, classes=3, image_size=16)
    batch = Batch(torch.randn(12, 3, 16, 16), torch.arange(12) % 3)
    space = space_of(model, {"hidden": (0.25, 0.5, 1), "heads": (0.5, 1)}, drop=True)

    def losses() -> list[float]:
        found = []
        for choice in (space.largest, space.smallest, space.sample(random.Random(5))):
            with narrowed(model.eval(), choice), torch.no_grad():
                found.append(float(Classification()(model, batch, 0.0).loss))
        return found

    before = losses()
    trainer = Trainer(model, SandwichTraining(Classification(), space), SameBatch(batch), toy_recipe(warmup=0), seed=0)
    trainer.train(steps=60)
    assert all(after < 0.7 * loss for after, loss in zip(losses(), before, strict=True))


def test_what_a_sandwich_counts_is_of_the_whole_model(model: Network) -> None:
    batch = Batch(torch.randn(6, 3, 16, 16), torch.arange(6) % 3)
    objective = SandwichTraining(Classification(), space_of(model), drawn=1).train()
    outcome = objective(model, batch, 0.0)
    whole = Classification()(model, batch, 0.0)
    assert means([outcome]) == pytest.approx(means([whole]))
    assert outcome.loss != whole.loss
    assert objective.eval()(model, batch, 0.0).loss == whole.loss


def test_the_page_about_supernets_runs() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/train-your-own.md").read_text()
    sections = ["", "## Until validation does not get better\n", "## One network that holds many\n"]
    names: dict[str, Any] = {}
    for heading in sections:
        section = page[page.index(heading) + len(heading) :].partition("\n## ")[0]
        for snippet in re.findall(r"```python\n(.*?)```", section, re.DOTALL)[: 1 if "Until" in heading else None]:
            quick = snippet.replace("epochs=30", "epochs=1").replace("steps=400", "steps=4")
            exec(quick, names)
    assert names["costs"].cost(names["best"]) <= 0.6 * names["costs"].cost()
    assert names["smaller"].parameter_count() < names["whole"].parameter_count()


def test_a_space_that_is_none_is_refused(model: Network) -> None:
    with pytest.raises(UserError, match="no axis 'tokens'; its axes are: heads, hidden, residual"):
        space_of(model, {"tokens": (0.5,)})
    with pytest.raises(UserError, match="shares above 0 and up to 1, in positive multiples"):
        space_of(model, (0.5, 1.5))
    with pytest.raises(UserError, match="in positive multiples"):
        space_of(model, multiple=0)
    with pytest.raises(UserError, match="0 or more, got -1"):
        SandwichTraining(Classification(), space_of(model), drawn=-1)
