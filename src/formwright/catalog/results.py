"""Recorded results of claims: ``results/ID.json``, which ``formwright verify --record`` alone writes."""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from formwright.catalog.cards import Card, claims_of
from formwright.catalog.claim import RUNGS, ClaimReport, Kind
from formwright.catalog.provenance import fingerprint
from formwright.errors import UserError
from formwright.files import write_atomically

FOLDER = Path(str(files("formwright.catalog"))) / "results"
#: Whose versions are recorded.
PACKAGES = ("formwright", "torch", "numpy", "onnxruntime")


class Recorded(BaseModel):
    """What came out of a claim, as it was recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    statement: str
    published: str
    measured: str
    holds: bool
    error: bool = False
    seconds: float
    details: str = ""
    #: The scores of each contestant, one per seed.
    figures: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    #: Which of the runs it comes from.
    run: int = Field(ge=0)


class Run(BaseModel):
    """When and where claims were run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: str
    commit: str | None
    processor: str
    threads: int
    python: str
    versions: dict[str, str]
    quick: bool
    seconds: float


class Results(BaseModel):
    """All that is recorded of a system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    fingerprint: str
    #: How many claims of each kind the system has.
    has: dict[Kind, int]
    runs: tuple[Run, ...]
    claims: dict[str, Recorded]

    def stale(self, card: Card) -> bool:
        """Whether what the results depend on has changed since."""
        return not card.built or self.fingerprint != fingerprint(card)


@dataclass(frozen=True)
class Evidence:
    """One rung of the evidence for a system: how many claims it has, how many were recorded, and how many hold."""

    name: str
    claims: int
    run: int
    held: int
    broken: int
    strict: bool

    @property
    def reached(self) -> bool:
        """Counts and equalities all hold; of directions and speeds at least one does, and none broke."""
        enough = self.held == self.run if self.strict else self.held > 0
        return self.run > 0 and enough and not self.broken


Rung = Literal["none", "built", "equal", "trained", "measured", "guide"]


@dataclass(frozen=True)
class Standing:
    """How far a system has come, as its recorded results say.

    Attributes:
        rung: the highest that is reached, where each below it that the system has claims for is reached too;
            ``guide`` for surveys.
        stale: the results are of another state of the code.
        evidence: what was recorded for each rung.
    """

    rung: Rung
    stale: bool
    evidence: tuple[Evidence, ...]


def standing(card: Card, results: Results | None) -> Standing:
    """The rung of a system, computed from what is recorded of it."""
    recorded = list(results.claims.values()) if results is not None else []
    evidence = []
    for kind, name in RUNGS.items():
        ours = [claim for claim in recorded if claim.kind == kind]
        held, broken = sum(claim.holds for claim in ours), sum(claim.error for claim in ours)
        claims = results.has.get(kind, 0) if results is not None else 0
        evidence.append(Evidence(name, claims, len(ours), held, broken, strict=kind in ("count", "equality")))
    stale = results is not None and results.stale(card)
    if "survey" in card.kind:
        return Standing("guide", stale, tuple(evidence))
    rung: Any = "none"
    for step in evidence:
        if step.reached:
            rung = step.name
        elif step.claims:
            break
    return Standing(rung, stale, tuple(evidence))


@functools.cache
def read_results() -> tuple[dict[str, Results], tuple[str, ...]]:
    """What is recorded of each system, and a sentence for each file that cannot be read."""
    found, problems = {}, []
    for path in sorted(FOLDER.glob("*.json")):
        try:
            found[path.stem] = read_file(path)
        except UserError as error:
            problems.append(str(error))
    return found, tuple(problems)


def read_file(path: Path) -> Results:
    """The results in a file.

    Raises:
        UserError: it is damaged, or about another system than its name says.
    """
    try:
        results = Results.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"The results file {path.name} is damaged and ignored ({first}); record it again.") from None
    if results.system != path.stem or any(claim.run >= len(results.runs) for claim in results.claims.values()):
        raise UserError(f"The results file {path.name} is damaged and ignored (its content does not fit together).")
    return results


def record(card: Card, reports: Sequence[ClaimReport], *, quick: bool) -> Path:
    """Write what claims of a system gave; what was recorded of others stays while the code is the same.

    Raises:
        StorageError: the package's folder cannot be written to.
    """
    path = FOLDER / f"{card.id}.json"
    now = fingerprint(card)
    runs: list[Run] = []
    claims: dict[str, Recorded] = {}
    try:
        before = read_file(path) if path.is_file() else None
    except UserError:
        before = None
    if before is not None and before.fingerprint == now:
        again = {report.claim for report in reports}
        claims = {name: claim for name, claim in before.claims.items() if name not in again}
        runs = list(before.runs)
    runs.append(_this_run(reports, quick=quick))
    claims |= {report.claim: _recorded(report, len(runs) - 1) for report in reports}
    used = sorted({claim.run for claim in claims.values()})
    places = {old: new for new, old in enumerate(used)}
    results = Results(
        system=card.id,
        fingerprint=now,
        has=dict(Counter(claim.kind for claim in claims_of(card.id))),
        runs=tuple(runs[index] for index in used),
        claims={name: claim.model_copy(update={"run": places[claim.run]}) for name, claim in claims.items()},
    )
    content = results.model_dump(mode="json")
    content["claims"] = {name: _without_defaults(claim) for name, claim in sorted(content["claims"].items())}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    read_results.cache_clear()
    return path


def _without_defaults(claim: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"details": "", "figures": {}, "seeds": [], "error": False}
    return {name: value for name, value in claim.items() if name not in empty or value != empty[name]}


def _recorded(report: ClaimReport, run: int) -> Recorded:
    return Recorded(
        kind=report.kind,
        statement=report.statement,
        published=report.published,
        measured=report.measured,
        holds=report.holds,
        error=report.error,
        seconds=round(report.seconds, 2),
        details=report.details,
        figures={name: tuple(values) for name, values in report.figures.items()},
        seeds=tuple(report.seeds),
        run=run,
    )


def _this_run(reports: Sequence[ClaimReport], *, quick: bool) -> Run:
    import torch

    return Run(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=_commit(),
        processor=processor(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
        quick=quick,
        seconds=round(sum(report.seconds for report in reports), 1),
    )


def processor() -> str:
    """The processor's name and number of cores, such as ``AMD EPYC 7763, 2 cores``."""
    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of a checkout; none of an installed package."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=FOLDER.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
