"""``formwright bench``: benchmarks that run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from formwright.cli.output import print_arena, reporter
from formwright.cli.terminal import print_json
from formwright.errors import UserError

bench = typer.Typer(help="Benchmarks that run on this machine.", no_args_is_help=True)


@bench.callback()
def group() -> None:
    """Benchmarks that run on this machine."""


@bench.command()
def lra(
    task: Annotated[
        str,
        typer.Option(help="Any of listops, text, retrieval, image, pathfinder and path-x, or none for speed alone."),
    ] = "listops,text,retrieval,image,pathfinder",
    mixers: Annotated[
        str, typer.Option(help="Mixers of the arena, separated by commas, or all.")
    ] = "full,local,linear,performer",
    budget: Annotated[str, typer.Option(help="How long all may take, such as 10m or 2h.")] = "10m",
    lengths: Annotated[
        str, typer.Option(help="Tokens of a row for speed and memory, or none.")
    ] = "1024,2048,4096,8192,16384",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each mixer is trained with.")] = 1,
    paper: Annotated[bool, typer.Option("--paper", help="Frame and rows of the paper's sizes: days on a CPU.")] = False,
    text: Annotated[
        Path | None, typer.Option(help="Texts with classes, for text and retrieval; Python sources if left out.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Pictures as fit reads them, for image; scikit-learn's digits if left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for arena.json and arena.html.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Run the Long Range Arena: mixers in one frame of equal size, on long sequences."""
    from formwright.measurement.budget import parse_duration
    from formwright.models.language.long_range_arena import ARENA_MIXERS
    from formwright.studies.arena.run import run_arena
    from formwright.studies.arena.tasks import Sources, read_documents

    chosen = list(ARENA_MIXERS) if mixers.strip() == "all" else _names(mixers)
    sources = Sources(text=None if text is None else read_documents(text), images=images)
    with reporter(quiet=quiet or as_json) as listener:
        result = run_arena(
            _names(task),
            chosen,
            budget=parse_duration(budget),
            lengths=[_length(name) for name in _names(lengths)],
            paper=paper,
            seeds=range(seeds),
            sources=sources,
            reporter=listener,
        )
    if out is not None:
        from formwright.files import write_json
        from formwright.studies.arena.report import write_report

        write_json(out / "arena.json", result.to_json())
        write_report(result, out / "arena.html")
    if as_json:
        print_json(result.to_json())
    else:
        print_arena(result, out)


def _names(text: str) -> list[str]:
    """Names separated by commas; none for ``none``."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [] if names == ["none"] else names


def _length(text: str) -> int:
    """``4096`` or ``4k``.

    Raises:
        UserError: it is no whole number above zero.
    """
    digits, factor = (text[:-1], 1024) if text.lower().endswith("k") else (text, 1)
    if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        raise UserError(f"{text!r} is no length; expected numbers of tokens such as 4096 or 4k, separated by commas.")
    return int(digits) * factor
