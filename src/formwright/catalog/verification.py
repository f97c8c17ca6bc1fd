"""Runs the claims of systems and shows published beside measured."""

from __future__ import annotations

import time
from collections.abc import Sequence

from formwright.catalog.cards import card_of, claims_of, read_cards
from formwright.catalog.claim import Claim, ClaimReport, ClaimResult
from formwright.catalog.results import record as write_results
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter, Share


def verify(
    systems: str | Sequence[str], *, quick: bool = False, record: bool = False, reporter: Reporter = SILENT
) -> list[ClaimReport]:
    """Run the claims of systems on this machine.

    >>> verify("poolformer", quick=True)[0].measured
    '11,915,176'

    Args:
        systems: an id of the catalogue, or several; :func:`all_systems` are all of them.
        quick: leave out what takes minutes (large models, training).
        record: write what came out into the package's ``catalog/results``, which the rungs of the catalogue are
            computed from.
        reporter: hears how far it is.

    Returns:
        One report a claim; ``failed`` says whether a count or an equality does not hold.

    Raises:
        UserError: there is no such system, or it is not built.
        StorageError: results are to be recorded, and the package's folder cannot be written to.
    """
    names = [systems] if isinstance(systems, str) else list(systems)
    for name in names:
        if not card_of(name).built:
            raise UserError(f"{name} is not built here yet, so there is nothing to verify; see formwright catalog.")
    claims = {name: [claim for claim in claims_of(name) if not (quick and claim.slow)] for name in names}
    reports: list[ClaimReport] = []
    for name, of_system in claims.items():
        first = len(reports)
        reporter.stage(name)
        for index, claim in enumerate(of_system):
            reporter.progress(index / len(of_system), claim.id)
            reports.append(_run(name, claim, Share(reporter, index, len(of_system))))
            if reports[-1].failed:
                reporter.note(f"{name} {claim.id}: {reports[-1].published} published, {reports[-1].measured} here")
        if record:
            write_results(card_of(name), reports[first:], quick=quick)
    return reports


def all_systems() -> list[str]:
    """The systems that are built."""
    return [name for name, card in read_cards().items() if card.built]


def _run(system: str, claim: Claim, reporter: Reporter) -> ClaimReport:
    start = time.monotonic()
    error = False
    try:
        result = claim.run(reporter)
    except Exception as problem:  # one broken claim must not hide the others
        result = ClaimResult(f"{type(problem).__name__}: {problem}", False)
        error = True
    return ClaimReport(
        system=system,
        claim=claim.id,
        kind=claim.kind,
        statement=claim.statement,
        published=claim.published,
        measured=result.measured,
        holds=result.holds,
        seconds=time.monotonic() - start,
        details=result.details,
        error=error,
        figures=result.figures,
        seeds=result.seeds,
    )


def rows(reports: Sequence[ClaimReport]) -> list[tuple[str, str, str, str, str]]:
    """System, claim, published, measured and verdict of each report, as they are printed."""
    return [(report.system, report.claim, report.published, report.measured, verdict(report)) for report in reports]


def verdict(report: ClaimReport) -> str:
    if report.error:
        return "broken"
    return "holds" if report.holds else "does not hold"
