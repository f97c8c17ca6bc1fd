"""Kinds of data and goals hold together, and new ones work from reading to the report with nothing else touched."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from formwright.batch import call
from formwright.candidates import CANDIDATES, candidate
from formwright.data.array_batches import ArrayBatches, in_order
from formwright.deployment import predict
from formwright.deployment.preparation import PREPARATIONS, Preparation
from formwright.errors import UserError
from formwright.files import write_json
from formwright.fitting import data as kinds
from formwright.fitting import fit, goals
from formwright.fitting.goal import GOALS, Findings, Goal, Page
from formwright.fitting.kind import DATA, Data, Option
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline
from formwright.fitting.shown import lines
from formwright.fitting.task import find_task, task_types
from formwright.models.series.temporal import patch_classifier
from formwright.nn.specification import part
from formwright.objectives.objective import Objective, Outcome
from formwright.open_choices import Categorical
from formwright.registry import Registry
from formwright.shapes import Shape

STEPS = 16


class Content:
    """Waves of some pitch, an array ``(waves, steps)`` of a file; every fourth tests, every fifth validates."""

    def __init__(self, path: Path) -> None:
        self.source, self.notes = str(path), ("Waves are told by their pitch.",)
        waves = np.load(path).astype(np.float32)
        self.waves, self.pitch = waves[:, 1:, None], waves[:, 0:1]
        numbers = np.arange(len(waves))
        part_of = np.where(numbers % 4 == 0, "test", np.where(numbers % 5 == 0, "val", "train"))
        self.parts = {name: np.flatnonzero(part_of == name) for name in ("train", "val", "test")}

    def save_splits(self, path):
        write_json(Path(path), {name: len(rows) for name, rows in self.parts.items()})

    def check_splits(self, path):
        if json.loads(Path(path).read_text()) != {name: len(rows) for name, rows in self.parts.items()}:
            raise UserError("These are other waves; give those of before.")


@dataclass(frozen=True)
class Pitch:
    file: str
    pitch: float

    def to_json(self):
        return {"file": self.file, "pitch": self.pitch}

    def cells(self):
        return {"file": self.file, "pitch": f"{self.pitch:.3f}"}


@dataclass(frozen=True)
class WavePreparation(Preparation):
    task: ClassVar[str] = "wave-regression"
    of: ClassVar[str] = "waves"
    scale: float

    def inputs(self, waves):
        return (waves / self.scale).astype(np.float32)

    def predict(self, model, inputs, reporter=None, how=None):
        for file in inputs:
            (value,) = model(self.inputs(np.load(file)[None, :, None]))[0]
            yield Pitch(file, float(value))

    def write(self, answers, out, reporter=None, how=None):
        for answer in answers:
            np.save(out, answer.pitch)
            yield answer


@dataclass(frozen=True)
class WaveShape(Shape):
    sizes: ClassVar = {"width": Categorical((16, 32)), "depth": Categorical((1,))}
    batches: ClassVar = ((0, 16),)
    waves: int
    samples: ClassVar = property(lambda self: self.waves)


class Waves(Data):
    name: ClassVar[str] = "waves"
    subject: ClassVar[str] = "wave"
    target: ClassVar[str] = "numbers"
    order: ClassVar[int] = 5
    expects: ClassVar[str] = "waves (a .npy file)"
    options: ClassVar = {"loudness": Option("what waves are divided by", float)}
    sample: ClassVar[str] = "wave"
    samples: ClassVar[str] = "waves"
    argument: ClassVar[str] = "wave.npy"
    asked: ClassVar[str] = "a wave"

    def __init__(self, content, scale):
        self.content, self.preparation = content, WavePreparation(scale)
        self.samples_of = {name: len(rows) for name, rows in content.parts.items()}

    @classmethod
    def recognise(cls, path):
        return "an array of waves" if path is not None and path.suffix == ".npy" else None

    @classmethod
    def read(cls, path, how):
        return cls(Content(path), float(how.options.get("loudness", 2.0)))

    def _rows(self, name):
        rows = self.content.parts[name]
        return self.preparation.inputs(self.content.waves[rows]), self.content.pitch[rows]

    def training_batches(self, batch_size, *, seed, parts=("train",)):
        inputs, targets = map(np.concatenate, zip(*map(self._rows, parts), strict=True))
        return ArrayBatches(inputs, targets, batch_size=batch_size, seed=seed)

    def evaluation_batches(self, part, *, batch_size=None, most=None):
        return in_order(*self._rows(part), batch_size=batch_size or 64, most=most)

    @property
    def shape(self):
        return WaveShape(self.samples_of["train"])

    @property
    def worthwhile_samples(self):
        return 100.0

    def describe(self):
        return {"waves": len(self.content.waves)}

    @classmethod
    def facts(cls, data):
        return [("waves", cls.summary(data))]

    @classmethod
    def summary(cls, data):
        return f"{data['waves']} waves"

    def show(self, index):
        return lines(self.content.waves[index])


class SquaredError(Objective):
    def forward(self, model, batch, progress):
        loss = F.mse_loss(call(model, batch.inputs), batch.targets)
        count = len(batch.targets)
        return Outcome(loss, {"loss": loss.detach() * count}, {"loss": count})


class Regression(Goal):
    name: ClassVar[str] = "regression"
    target: ClassVar[str] = "numbers"
    options: ClassVar = {"unit": Option("of the numbers")}
    metric: ClassVar[Metric] = Metric("explained share", "explained")
    model: ClassVar[str] = "a regression of {samples}"
    answer: ClassVar[str] = "the number of {asked}"
    figure: ClassVar[str] = "Share of the variance that each one explains"
    title: ClassVar[str] = "Where it is far off"
    template: ClassVar[str] = "regression.html.j2"
    tolerance: ClassVar[float] = 1e-3

    def __init__(self, data, *, unit="Hz"):
        super().__init__(data)
        self.unit = unit

    def objective(self, recipe=None):
        return SquaredError()

    def distilled(self, recipe, teacher):
        return SquaredError()

    def counted(self, outputs, targets):
        return float(np.sum(1 - (outputs - targets) ** 2 / self.data.content.pitch.var())), float(len(targets))

    def examine(self, run, model):
        batch = next(iter(self.data.evaluation_batches("test")))
        far = int(np.abs(run(batch.inputs) - batch.targets.numpy()).argmax())
        return Findings({"explained": self.score(run, "test")}, {"far": far, "unit": self.unit})

    def baselines(self, *, seconds, seed):
        return [Baseline("the mean", 0.0, 0.0, "always the same")]

    def attachments(self, details):
        return {details["far"]: self.data.show(details["far"])}

    @classmethod
    def page(cls, result, data, attachments):
        content = {"far": attachments.get(result.details["far"]), "unit": result.details["unit"]}
        return Page(f"{result.test['explained']:.2f} explained", [], content)


@pytest.fixture
def waves(tmp_path, monkeypatch):
    """A file of waves, and the new kind and goal registered while a test runs."""
    from formwright.cli.task_options import task_parameters

    for registry, name, item in ((DATA, "waves", Waves), (GOALS, "regression", Regression)):
        assert list(registry)
        monkeypatch.setitem(registry._items, name, item)
    monkeypatch.setitem(PREPARATIONS._items, WavePreparation.task, WavePreparation)
    monkeypatch.setitem(CANDIDATES, WavePreparation.task, {})

    @candidate(WavePreparation.task, "patches", order=1, narrow=0, plain="plain patches")
    def build(shape, width, depth):
        mixer = part("depthwise_convolution", kernel=3)
        options = {"patch_size": 4, "positions": False, "classes": 1, "length": STEPS, "variates": 1}
        return patch_classifier(dim=width, depth=depth, mixer=mixer, **options)

    task_parameters.cache_clear()
    random = np.random.default_rng(0)
    pitch = random.uniform(0.5, 1.5, 160)
    rows = np.column_stack([pitch, np.sin(pitch[:, None] * np.arange(STEPS))])
    np.save(tmp_path / "waves.npy", rows)
    np.save(tmp_path / "one.npy", rows[0, 1:])
    yield tmp_path
    task_parameters.cache_clear()


def test_a_new_kind_and_a_new_goal_are_a_task(waves, short_runs):
    torch.manual_seed(0)
    found, reason = find_task(waves / "waves.npy", None, {"loudness": 4.0})
    assert (found.name, reason) == ("wave-regression", "an array of waves")
    assert found.options.keys() == {"loudness", "unit"}
    assert "wave-classification" not in task_types()
    result = fit(waves / "waves.npy", out=waves / "run", max_time=6, threads=1, loudness=4.0, unit="kHz")
    assert result.task == "wave-regression"
    assert result.agreement.same_answer == 1.0
    assert result.agreement.largest_difference <= 1e-3
    assert result.test["explained"] > 0.5
    page = (waves / "run" / "report.html").read_text()
    for words in ("a regression of waves", "explained", "in kHz", 'class="lines series"', "plain patches"):
        assert words in page, words
    (answer,) = predict(waves / "run", [waves / "one.npy"], out=waves / "pitch.npy")
    assert np.load(waves / "pitch.npy") == pytest.approx(answer.pitch)
    assert fit(waves / "waves.npy", out=waves / "run", resume=True, max_time=6, loudness=4.0, unit="kHz").test


def test_its_options_are_on_the_command_line(waves, capsys):
    from formwright.cli import main

    for command in ("fit", "compress"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "--loudness" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", str(waves / "waves.npy"), "--loudness", "loud", "--out", str(waves / "run")])
    assert "Invalid value for '--loudness'" in capsys.readouterr().err


@pytest.mark.parametrize("name", task_types())
def test_a_task_is_whole(name):
    task = task_types()[name]
    assert DATA[task.data.name] is task.data
    assert GOALS[task.goal.name] is task.goal
    assert PREPARATIONS[name].task == name
    assert (Path(goals.__file__).parents[1] / "templates" / task.goal.template).is_file()
    assert all("{" not in text for text in vars(task.words).values())
    assert sum(bool(entry.plain) for entry in CANDIDATES[name].values()) == 1
    orders = [entry.order for entry in CANDIDATES[name].values()]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize(("package", "most"), [(goals, 200), (kinds, 300)])
def test_a_goal_and_a_kind_of_data_are_small(package, most):
    for path in Path(package.__file__).parent.glob("*.py"):
        assert len(path.read_text().splitlines()) <= most, path.name


def test_options_that_tasks_share_are_of_one_kind():
    found: dict[str, type] = {}
    for task in task_types().values():
        for name, option in task.options.items():
            assert found.setdefault(name, option.kind) is option.kind, name


def test_the_options_need_no_torch():
    program = (
        "import sys; from formwright.cli import main\n"
        "try: main(['fit', '--help'])\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "--look-back" in done.stdout) == (0, True)


def test_a_registry_imports_the_module_of_a_name_alone():
    code = (
        "import sys; from formwright.deployment.preparation import PREPARATIONS\n"
        "PREPARATIONS['language-modelling']\n"
        "sys.exit('formwright.deployment.preparations.forecasting' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "nothing" not in Registry("thing", group="formwright.nothing", package="formwright.fitting.goals")
