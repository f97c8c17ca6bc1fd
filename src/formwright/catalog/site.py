"""``python -m formwright.catalog.site OUT [--results FILE]``: the catalogue as pages.

An index of all systems with the rungs of evidence that their claims support, and a page each. With the reports that
``formwright verify --all --json`` printed, every claim shows what was measured; without them, only what is published.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formwright.catalog.cards import Card, claims_of, read_cards
from formwright.catalog.claim import RUNGS, Claim
from formwright.drawing import page_environment
from formwright.errors import UserError
from formwright.files import read_json, write_atomically
from formwright.models import MODELS


@dataclass(frozen=True)
class Evidence:
    """One rung of the evidence for a system: how many claims it rests on, and how many held when they were run."""

    name: str
    claims: int
    run: int
    held: int

    @property
    def state(self) -> str:
        if not self.claims:
            return "none"
        if not self.run:
            return "claimed"
        return "held" if self.held == self.run else "open"

    @property
    def text(self) -> str:
        left = self.claims - self.run
        parts = [f"{self.held} of {self.run} hold"] if self.run else []
        return ", ".join([*parts, f"{left} to run"] if left else parts)


@dataclass(frozen=True)
class System:
    """What the page of a system shows."""

    card: Card
    variants: list[str]
    claims: list[tuple[Claim, Mapping[str, Any] | None]]

    @property
    def rungs(self) -> list[Evidence]:
        return [
            Evidence(
                name,
                claims=sum(claim.kind == kind for claim, _ in self.claims),
                run=sum(claim.kind == kind and result is not None for claim, result in self.claims),
                held=sum(claim.kind == kind and bool(result and result["holds"]) for claim, result in self.claims),
            )
            for kind, name in RUNGS.items()
        ]


def systems(results: Sequence[Mapping[str, Any]] = ()) -> list[System]:
    """All systems, with the results of those claims that were run."""
    found = {(result["system"], result["claim"]): result for result in results}
    return [
        System(
            card=card,
            variants=[name for name in MODELS if MODELS[name].family == card.family],
            claims=[(claim, found.get((card.id, claim.id))) for claim in claims_of(card.id)],
        )
        for card in read_cards().values()
    ]


def write_site(out: Path, results: Sequence[Mapping[str, Any]] = ()) -> list[Path]:
    """Write ``index.html`` and a page for each system into the folder ``out``."""
    environment = page_environment("formwright.catalog")
    everything = systems(results)
    pages = {"index.html": environment.get_template("index.html.j2").render(systems=everything, rungs=RUNGS.values())}
    for system in everything:
        pages[f"{system.card.id}.html"] = environment.get_template("system.html.j2").render(system=system)
    for name, text in pages.items():
        write_atomically(out / name, text)
    return [out / name for name in pages]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m formwright.catalog.site", description="The catalogue as pages.")
    parser.add_argument("out", type=Path, help="folder for the pages")
    parser.add_argument("--results", type=Path, help="what formwright verify --all --json printed")
    options = parser.parse_args(arguments)
    try:
        results = read_json(options.results) if options.results else []
        pages = write_site(options.out, results)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(pages)} pages, starting at {options.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
