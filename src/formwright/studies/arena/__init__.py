"""The Long Range Arena: all mixers in one frame of equal size, on long sequences of several kinds."""

from formwright.studies.arena.contest import train_and_score
from formwright.studies.arena.records import ArenaResult, Score, Speed
from formwright.studies.arena.report import write_report
from formwright.studies.arena.run import run_arena
from formwright.studies.arena.tasks import TASKS, ArenaTask

__all__ = ["TASKS", "ArenaResult", "ArenaTask", "Score", "Speed", "run_arena", "train_and_score", "write_report"]
