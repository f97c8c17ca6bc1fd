"""The folder of a run: what is finished, written so that a kill at any moment loses nothing of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.fitting.records import Baseline, ShrinkStep, Trial, Variant, trial_from_dict

STATE_FILE = "run.json"


@dataclass
class RunState:
    """What a continued run needs to know: options, time used, and every finished result."""

    options: dict[str, Any]
    spent: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    #: rungs of the race that are decided
    rungs_done: int = 0
    #: numbers of the trial to ship, and of its teacher if it has one
    winner: int | None = None
    teacher: int | None = None
    #: finished steps after the race, by name
    finished: list[str] = field(default_factory=list)
    shrink: list[ShrinkStep] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """Paths of a run, and its state."""

    def __init__(self, root: Path, state: RunState) -> None:
        self.root = root
        self.state = state

    @staticmethod
    def check(root: Path) -> None:
        """Refuse a folder that has something in it.

        Raises:
            UserError: says what to do instead.
        """
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give a folder for the results (--out).")
        if root.is_dir() and any(root.iterdir()):
            hint = "continue it with --resume, or" if (root / STATE_FILE).is_file() else "please"
            raise UserError(f"The folder {root} is not empty; {hint} choose another one (--out).")

    @staticmethod
    def create(root: Path, options: dict[str, Any]) -> RunFolder:
        """Start a run in an empty or new folder.

        Raises:
            UserError: the folder has something in it, or cannot be made.
        """
        RunFolder.check(root)
        folder = RunFolder(root, RunState(options))
        folder.save()
        return folder

    @staticmethod
    def open(root: Path, options: dict[str, Any]) -> RunFolder:
        """Continue a run.

        Raises:
            UserError: there is none in the folder, or it was started with other options.
        """
        if not (root / STATE_FILE).is_file():
            raise UserError(f"There is no run to continue in {root}; start one without --resume.")
        values = read_json(root / STATE_FILE)
        values["trials"] = [trial_from_dict(trial) for trial in values["trials"]]
        values["shrink"] = [ShrinkStep(**step) for step in values["shrink"]]
        values["variants"] = [Variant(**variant) for variant in values["variants"]]
        values["baselines"] = [Baseline(**baseline) for baseline in values["baselines"]]
        state = RunState(**values)
        differing = [name for name, value in options.items() if state.options.get(name) != value]
        if differing:
            name = differing[0]
            raise UserError(
                f"The run in {root} was started with {name} = {state.options.get(name)!r}, not {options[name]!r}; "
                "continue it with the same options, or start another one."
            )
        return RunFolder(root, state)

    def save(self) -> None:
        write_json(self.root / STATE_FILE, dataclasses.asdict(self.state))

    def checkpoint(self, name: str) -> Path:
        return self.root / "checkpoints" / f"{name}.safetensors"

    def variant(self, name: str) -> Path:
        return self.root / "variants" / name
