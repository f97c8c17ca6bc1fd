"""``formwright compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from formwright.cli.output import print_compression, reporter
from formwright.cli.task_options import given
from formwright.cli.terminal import print_json


def compress(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Folder of a saved model, or of a run; hf:ORG/NAME or timm:NAME downloads one.")
    ],
    steps: Annotated[Path, typer.Option(help="The recipe: a YAML file with a list of steps.")],
    out: Annotated[Path, typer.Option(help="Folder for the smaller model, new or empty.")],
    data: Annotated[
        Path | None, typer.Option(help="Data like those of the training, as fit reads them; those of the run if unset.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What the model does; inferred if unset.")] = None,
    seed: Annotated[int, typer.Option(help="Decides splits and whatever is drawn.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be read.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads to use; all of them if unset.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Make a saved model smaller by the steps of a recipe, and say what each step did and cost."""
    from formwright.fitting.compress import compress_folder

    with reporter(quiet=quiet or as_json) as listener:
        report = compress_folder(
            model,
            steps,
            out=out,
            data=data,
            task=task,
            seed=seed,
            skip_bad=skip_bad,
            threads=threads,
            reporter=listener,
            **given(context),
        )
    if as_json:
        print_json(report)
    else:
        print_compression(report, out)
