"""The command that measures scaling laws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from formwright.cli.output import console, reporter
from formwright.cli.terminal import print_json


def scaling(
    train: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV files whose columns of numbers are trained on; synthetic if left out."),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option("--test", help="A CSV file to judge by alone, out of distribution; repeatable.")
    ] = None,
    sizes: Annotated[str, typer.Option(help="Sizes from 1k to 1b, separated by commas.")] = "1k,10k,100k",
    kinds: Annotated[str, typer.Option(help="encoder, decoder or both, separated by a comma.")] = "encoder,decoder",
    data: Annotated[
        str,
        typer.Option(help="Smaller numbers of points that the largest model is trained on too, separated by commas."),
    ] = "",
    steps: Annotated[int, typer.Option(min=3, help="Steps of every training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="How often everything is trained.")] = 1,
    length: Annotated[int, typer.Option(min=64, help="Points of a window, a multiple of 32.")] = 512,
    out: Annotated[
        Path, typer.Option(help="Folder for points.json and report.html; a stopped study continues.")
    ] = Path("runs/scaling"),
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads to use; all of them if unset.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Train foundation models of series in several sizes, and draw how their loss falls with size, data and compute."""
    import torch

    from formwright.studies.scaling import measure_scaling, read_corpus, synthetic_corpus
    from formwright.studies.scaling.report import write_scaling_report

    if threads is not None:
        torch.set_num_threads(threads)
    corpus = read_corpus(train, test or [], length=length) if train else synthetic_corpus(length=length)
    with reporter(quiet=quiet or as_json) as listener:
        listener.stage("scaling")
        result = measure_scaling(
            corpus,
            sizes=_names(sizes),
            kinds=_names(kinds),
            data=_numbers(data),
            steps=steps,
            seeds=range(seeds),
            out=out,
            length=length,
            reporter=listener,
        )
    write_scaling_report(result, out / "report.html")
    if as_json:
        print_json(result.to_dict())
        return
    for law in result.laws():
        console.print(
            f"{law['kind']}, {law['axis']}, {law['set']}: alpha {law['alpha']:.4f}, R² {law['r2']:.3f}, "
            f"{law['points']} points",
            highlight=False,
        )
    console.print(f"Pictures: {out / 'report.html'}", highlight=False)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    from formwright.errors import UserError

    try:
        return [int(name) for name in _names(text)]
    except ValueError:
        raise UserError(f"Numbers of points are whole numbers separated by commas, got {text!r}.") from None
