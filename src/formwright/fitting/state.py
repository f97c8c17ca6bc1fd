"""The folder of a run: what is finished, written so that a kill at any moment loses nothing of it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from formwright.errors import UserError
from formwright.files import is_leftover, not_written, read_json, remove_leftovers, write_json
from formwright.fitting.memory import NAMES
from formwright.fitting.records import Baseline, ShrinkStep, Trial, Variant, trial_from_dict, variant_from_dict
from formwright.measurement.budget import format_bytes, format_count, format_seconds

STATE_FILE = "run.json"
SPLITS_FILE = "splits.json"
#: Written last: a run that has it is finished.
RESULT_FILE = "metrics.json"
REPORT_FILE = "report.html"
LOG_FILE = "log.jsonl"
CURVES_FOLDER = "tensorboard"
DEFAULT_FOLDER, DEFAULT_TIME = Path("runs/fit"), "15m"
#: All that runs write.
FILES = (
    STATE_FILE,
    SPLITS_FILE,
    RESULT_FILE,
    REPORT_FILE,
    LOG_FILE,
    "model.onnx",
    "scored.onnx",
    "model.safetensors",
    "config.json",
    "preprocessing.json",
    "tokenizer.json",
    *NAMES,
)
FOLDERS = ("checkpoints", "variants", CURVES_FOLDER)
#: What a run that is given more time still knows.
LASTING_FACTS = ("precision", "export_seconds", "attempts")
#: Seconds that more time must leave at least.
LEAST_MORE = 20.0
_OF_A_TRIAL = re.compile(r"trial-\d+(-kept-\d+)?")


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

    def variant(self, form: str, precision: str = "float32") -> Variant | None:
        """The exported form of a model, if there is one."""
        return next((one for one in self.variants if (one.form, one.precision) == (form, precision)), None)


@dataclass(frozen=True)
class RunPaths:
    """Where what a run makes lies."""

    root: Path

    def checkpoint(self, name: str) -> Path:
        return self.root / "checkpoints" / f"{name}.safetensors"

    @property
    def answers(self) -> Path:
        """What a teacher says of all samples."""
        return self.checkpoint("answers")

    def variant(self, name: str) -> Path:
        return self.root / "variants" / name


class RunFolder:
    """The folder of a run, and its state; ``made`` are the folders that were made for it, the innermost first."""

    def __init__(self, root: Path, state: RunState, made: Sequence[Path] = ()) -> None:
        self.root = root
        self.paths = RunPaths(root)
        self.state = state
        self._made = made
        self._unlock: weakref.finalize[..., RunFolder] | None = None

    @staticmethod
    def check(root: Path, *, overwrite: bool = False) -> None:
        """Refuse a folder that has something in it, unless that is a run that may be overwritten.

        Raises:
            UserError: says what to do instead.
        """
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; give a folder for the results (--out).")
        try:
            occupied = root.is_dir() and any(not is_leftover(path) for path in root.iterdir())
        except OSError as error:
            raise UserError(
                f"The folder {root} cannot be read: {error.strerror}; choose another one (--out)."
            ) from None
        if occupied and (root / STATE_FILE).is_file():
            if overwrite:
                return
            raise UserError(
                f"The folder {root} holds a run already; continue it with --resume, replace it with --overwrite, or "
                "choose a new folder (--out)."
            )
        if occupied:
            raise UserError(f"The folder {root} is not empty; choose a new or an empty one (--out).")

    @staticmethod
    def create(root: Path, options: dict[str, Any], *, overwrite: bool = False) -> RunFolder:
        """Start a run in an empty or new folder, or in place of another run.

        Raises:
            UserError: the folder has something else in it, another process works there, or it cannot be made.
        """
        RunFolder.check(root, overwrite=overwrite)
        folder = RunFolder(root, RunState(options), made=[path for path in (root, *root.parents) if not path.exists()])
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(root, error) from error
        folder.lock()
        remove_leftovers(root)
        folder.clear()
        try:
            folder.save()
        except UserError:
            folder.discard()
            raise
        return folder

    @staticmethod
    def option_of(root: Path, name: str) -> Any:
        """What the run in a folder was started with, where there is one: its task, for instance."""
        values = read_json(root / STATE_FILE) if (root / STATE_FILE).is_file() else None
        options = values.get("options") if isinstance(values, dict) else None
        return options.get(name) if isinstance(options, dict) else None

    @staticmethod
    def open(root: Path, options: dict[str, Any]) -> RunFolder:
        """Continue a run.

        Raises:
            UserError: there is none in the folder, or it was started with other options.
        """
        if not (root / STATE_FILE).is_file():
            raise UserError(f"There is no run to continue in {root}; start one without --resume.")
        values = read_json(root / STATE_FILE)
        try:
            values["trials"] = [trial_from_dict(trial) for trial in values["trials"]]
            values["shrink"] = [ShrinkStep(**step) for step in values["shrink"]]
            values["variants"] = [variant_from_dict(variant) for variant in values["variants"]]
            values["baselines"] = [Baseline(**baseline) for baseline in values["baselines"]]
            state = RunState(**values)
        except (TypeError, KeyError, AttributeError):
            raise UserError(
                f"{root / STATE_FILE} is not the record of a run of this version; start a new one in another folder."
            ) from None
        asked, given = state.options.get("max_time"), options.get("max_time")
        if given is None or (isinstance(asked, int | float) and given > asked):
            options = {**options, "max_time": asked}  # more time changes nothing that is done
        differing = [name for name, value in options.items() if state.options.get(name) != value]
        if differing:
            before, now = (_shown(differing[0], values.get(differing[0])) for values in (state.options, options))
            longer = " or more time" if differing[0] == "max_time" else ""
            raise UserError(
                f"The run in {root} was started with {before}, and now {now} is given; continue it with the options "
                f"that it was started with{longer}, or start another run in a new folder (--out)."
            )
        folder = RunFolder(root, state)
        folder.lock()
        remove_leftovers(root)
        return folder

    def lock(self) -> None:
        """Keep other processes out until :meth:`release`, or until this one ends, however it ends.

        Raises:
            UserError: another process works in the folder.
        """
        try:
            import fcntl
        except ImportError:  # a system without such locks
            return
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"Another process works on the run in {self.root}; wait until it has ended, or choose a new folder "
                "(--out)."
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return
        self._unlock = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let others in again."""
        if self._unlock is not None:
            self._unlock()

    def save(self) -> None:
        write_json(self.root / STATE_FILE, dataclasses.asdict(self.state))

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.root / RESULT_FILE).is_file()

    def give_time(self, seconds: float) -> None:
        """Let the run take so many seconds in all: a finished one races and trains again with what it has.

        Raises:
            UserError: what is left of this time is too short.
        """
        state = self.state
        left = seconds - state.spent
        if left < LEAST_MORE:
            raise UserError(
                f"The run in {self.root} has used {format_seconds(state.spent)}, so --max-time "
                f"{format_seconds(seconds).replace(' ', '')} leaves {format_seconds(max(left, 0.0))}; give it "
                f"{format_seconds(state.spent + LEAST_MORE)} at least."
            )
        state.options["max_time"] = seconds
        if state.winner is not None:
            for trial in state.trials:
                if trial.status in ("stopped", "finished") and not (trial.fitted or trial.teacher):
                    trial.status, trial.reason = "racing", ""
                    trial.ended = trial.curve[-1].step if trial.curve else None
            state.winner, state.rungs_done = None, 0
            state.finished = [name for name in state.finished if name == "teach"]
            state.shrink, state.variants, state.baselines, state.notes = [], [], [], []
            state.facts = {name: value for name, value in state.facts.items() if name in LASTING_FACTS}
            if "attempts" in state.facts:
                state.facts["attempts"]["rounds"] = state.facts["attempts"].get("rounds", 1) + 1
            for path in (self.root / "checkpoints").glob("*.safetensors"):
                if path != self.paths.answers and not _OF_A_TRIAL.fullmatch(path.stem):
                    path.unlink()
        (self.root / RESULT_FILE).unlink(missing_ok=True)
        self.save()

    def discard(self) -> None:
        """Delete what this run has written, and the folders that were made for it."""
        self.clear()
        for folder in self._made:
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()

    def clear(self) -> None:
        """Delete what runs write, and nothing else that is in the folder."""
        for name in FILES:
            with contextlib.suppress(OSError):  # it was never there, or the disk is broken
                (self.root / name).unlink()
        for name in FOLDERS:
            shutil.rmtree(self.root / name, ignore_errors=True)


def results_folder(out: str | Path | None, *, again: bool = False) -> Path:
    """The folder for results.

    That which was named; else the first of ``runs/fit``, ``runs/fit-2`` and so on that has nothing in it, or, to work
    ``again``, the last of them that holds a run.
    """
    if out is not None:
        return Path(out)
    taken = list(itertools.takewhile(_occupied, _numbered(DEFAULT_FOLDER)))
    if not again:
        return next(folder for folder in _numbered(DEFAULT_FOLDER) if folder not in taken)
    return next((folder for folder in reversed(taken) if (folder / STATE_FILE).is_file()), DEFAULT_FOLDER)


def _numbered(root: Path) -> Iterator[Path]:
    yield root
    yield from (root.with_name(f"{root.name}-{number}") for number in itertools.count(2))


def _occupied(folder: Path) -> bool:
    try:
        return folder.exists() and (not folder.is_dir() or any(not is_leftover(path) for path in folder.iterdir()))
    except OSError:
        return True


def _shown(name: str, value: Any) -> str:
    """An option as it is written on the command line."""
    flag = f"--{name.replace('_', '-')}"
    if name == "data":
        return f"the data {value}" if value else "no data (scikit-learn's digits)"
    if name == "options":
        return (
            " ".join(f"--{key.replace('_', '-')} {chosen}" for key, chosen in value.items()) or "no options of its task"
        )
    if value is None or value is False:
        return f"no {flag}"
    if value is True:
        return flag
    shown = {"max_latency": format_seconds, "max_time": format_seconds, "max_size": format_bytes}
    show = shown.get(name, format_count if name == "max_macs" else str)
    return f"{flag} {show(value).replace(' ', '')}"
