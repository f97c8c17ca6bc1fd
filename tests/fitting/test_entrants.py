"""Who enters the race of forecasters, and when candidates are judged."""

from __future__ import annotations

from types import SimpleNamespace

from formwright.fitting.costs import Cost
from formwright.fitting.race import MORE_SECONDS, _seconds_of
from formwright.fitting.shortlist import affordable_sample, narrow_member
from formwright.measurement.budget import Budget
from formwright.search.space import space_for
from formwright.shapes import SeriesShape

SHAPE = SeriesShape(48, 1, 2, 12, 600, look_backs=(48, 24))


def session(**data):
    space = space_for("forecasting", SHAPE)
    kind = SimpleNamespace(
        shape=SHAPE, worthwhile_samples=1200.0, **{"several_widths": True, "fewest_steps": 60, **data}
    )
    cost = Cost(1000, 1000, 1e-3, None, 4000, 4000, 0.01)
    return SimpleNamespace(
        task=SimpleNamespace(space=space, data=kind),
        budget=Budget(),
        precision="32-true",
        do=lambda what, **options: {name: getattr(cost, name) for name in Cost.__dataclass_fields__},
    )


def test_families_have_a_narrow_member_that_reads_less():
    space = session().task.space
    widest = space.propose("itransformer", **space.ladder("itransformer")[-1])
    found, _ = narrow_member(session(), widest)
    assert (widest.choices["width"], widest.choices["look_back"]) == (256, 48)
    assert (found.choices["width"], found.choices["look_back"]) == (64, 24)
    assert narrow_member(session(several_widths=False), widest) is None
    assert narrow_member(session(), space.propose("ridge")) is None


def test_slow_candidates_make_their_fewest_steps_before_they_are_judged():
    trial = SimpleNamespace(step=0.05)
    assert _seconds_of(session(), trial, 2.0) == 60 * 0.05
    assert _seconds_of(session(), trial, 0.5) == MORE_SECONDS * 0.5
    assert _seconds_of(session(), trial, 30.0) == 30.0
    assert _seconds_of(session(fewest_steps=0), trial, 2.0) == 2.0


def test_no_step_is_so_slow_that_few_fit_into_the_first_rung():
    assert affordable_sample(session(), 60.0) < affordable_sample(session(fewest_steps=0), 60.0)
