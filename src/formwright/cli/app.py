"""Commands and their options; each calls one function of the library."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from formwright import __version__
from formwright.cli.bench import bench
from formwright.cli.compress import compress
from formwright.cli.generation import generate
from formwright.cli.output import (
    print_claims,
    print_fit,
    print_measurements,
    print_models,
    print_parts,
    print_predictions,
    print_unanswered,
    reporter,
)
from formwright.cli.scaling import scaling
from formwright.cli.task_options import TaskCommand, given
from formwright.cli.terminal import print_json
from formwright.errors import UserError

app = typer.Typer(
    name="formwright",
    help="The Transformer, or its successor, that fits your data, your device and your budget.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads to use; all of them if unset.")]


def _version(value: bool) -> None:
    if value:
        print(f"formwright {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    """The Transformer, or its successor, that fits your data, your device and your budget."""


@app.command(cls=TaskCommand)
def fit(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="What to learn from: {kinds}; scikit-learn's digits if left out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results, new or empty; runs/fit if unset, or runs/fit-2 where it is taken."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What the model is to do, such as image-classification; inferred if unset.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Most time for one sample through the exported model here, such as 5ms.")
    ] = None,
    max_size: Annotated[str | None, typer.Option(help="Largest exported file, such as 4MB.")] = None,
    max_macs: Annotated[
        str | None, typer.Option(help="Most multiply-accumulates for one sample, such as 100M.")
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="How long the whole run may take, such as 15m or 1h30m; 15m if unset."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides splits, first weights, order and augmentation.")] = 0,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights to start from, fine-tuned and frozen: the folder of a saved model, of transformers or of "
            "timm, a checkpoint file, or hf:ORG/NAME or timm:NAME to download. May be given several times."
        ),
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(help="Families of models that alone are tried, separated by commas, such as resnet,convnext."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --out; with a longer --max-time one that is finished, too."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that --out holds.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what cannot be read, instead of refusing the data.")
    ] = False,
    plain_peer: Annotated[
        bool,
        typer.Option("--plain-peer", help="Then train the plain model as long as the winner; this exceeds --max-time."),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write the scores of candidates to OUT/tensorboard, for TensorBoard."),
    ] = False,
    worker: Annotated[
        bool | None,
        typer.Option(
            "--worker/--no-worker",
            help="Train in a process of its own, so that a candidate that crashes or takes too much memory costs the "
            "run no more than itself; if unset, for runs of two minutes or more.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation before starting.")] = False,
    threads: Threads = None,
    device: Annotated[
        str, typer.Option(help="Where candidates learn: cpu, cuda or mps; auto takes the best that there is.")
    ] = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find, train, shrink and export the model that fits DATA and the budget, with a report."""
    from formwright.fitting import fit as run_fit
    from formwright.fitting.state import DEFAULT_TIME, STATE_FILE, results_folder
    from formwright.measurement.budget import Budget

    out = results_folder(out, again=resume or overwrite)
    asked = DEFAULT_TIME if max_time is None and not resume else max_time
    budget = Budget.parse(max_latency=max_latency, max_size=max_size, max_macs=max_macs, max_time=asked)
    if not (yes or resume or quiet or as_json) and sys.stdin.isatty():
        source = data if data is not None else "scikit-learn's digits"
        typer.confirm(f"Fit {source} within {budget}, results in {out}?", default=True, abort=True)
    try:
        with reporter(quiet=quiet or as_json) as listener:
            result = run_fit(
                data,
                out=out,
                task=task,
                max_latency=max_latency,
                max_size=max_size,
                max_macs=max_macs,
                max_time=max_time,
                seed=seed,
                weights=weights,
                families=families,
                resume=resume,
                overwrite=overwrite,
                skip_bad=skip_bad,
                threads=threads,
                device=device,
                plain_peer=plain_peer,
                tensorboard=tensorboard,
                worker=worker,
                reporter=listener,
                **given(context),
            )
    except KeyboardInterrupt:
        if (out / STATE_FILE).is_file():
            print("formwright: interrupted; continue with the same options and --resume.", file=sys.stderr)
        raise
    if as_json:
        print_json(result.to_dict())
    else:
        print_fit(result, out)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="Folder that fit wrote.")],
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders of them, tables of texts, texts in quotes, or - for standard input."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--append",
            help="Write the answers there instead: forecasts are added to a CSV file, new or there already; restored "
            "pictures are put into a folder.",
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of files that are neither marked nor UTF-8, such as cp1252.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the texts in tables, by name or number; that of training if unset.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what cannot be read, and say so, instead of refusing all.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict with the model of a run: classes of pictures, texts and series, bits per byte, forecasts."""
    from formwright.deployment import predict as run_predict

    with reporter(quiet=quiet, notes=as_json) as listener:
        predictions = run_predict(
            folder,
            inputs,
            out=out,
            encoding=encoding,
            text_column=text_column,
            skip_bad=skip_bad,
            threads=threads,
            reporter=listener,
        )
    print_unanswered(predictions)
    if out is not None:
        return
    if as_json:
        print_json([prediction.to_json() for prediction in predictions])
    else:
        print_predictions(predictions)


@app.command()
def measure(
    models: Annotated[list[str], typer.Argument(help="Names of models (see list), or folders of saved ones.")],
    batch: Annotated[int, typer.Option(min=1, help="How many pictures in one call.")] = 1,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the pictures in pixels; the model's own if unset.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Any of eager, compile, onnx and onnx-int8, separated by commas.")
    ] = "eager",
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure latency, throughput, memory, parameters, MACs and file size of models on this machine."""
    from formwright.measurement import measure as run_measure

    backends = [name.strip() for name in backend.split(",") if name.strip()]
    found = []
    with reporter(quiet=quiet or as_json) as listener:
        listener.stage("Measuring")
        for index, model in enumerate(models):
            listener.progress(index / len(models), model)
            found += run_measure(model, batch=batch, size=size, backends=backends, threads=threads)
    if as_json:
        print_json([measurement.to_json() for measurement in found])
    else:
        print_measurements(found)


@app.command("list")
def list_command(
    pattern: Annotated[
        str, typer.Argument(help="Shell-style pattern of names, such as '*former_s12' (in quotes).")
    ] = "*",
    task: Annotated[str | None, typer.Option(help="Only models for this task.")] = None,
    as_json: Json = False,
) -> None:
    """List the models that can be built by name, with their numbers of parameters."""
    from formwright.cli.listing import listed

    models = listed(pattern, task=task)
    if not models:
        which = f"for the task {task!r} matches" if task else "matches"
        raise UserError(f"No model {which} {pattern!r}; see formwright list.")
    if as_json:
        print_json([model.name for model in models])
    else:
        print_models(models)


@app.command()
def parts(
    pattern: Annotated[
        str, typer.Argument(help="Shell-style pattern of names, such as '*attention' (in quotes).")
    ] = "*",
    kind: Annotated[str | None, typer.Option(help="Only parts of this kind, such as 'token mixer'.")] = None,
    as_json: Json = False,
) -> None:
    """List the parts that models are made of, to use in modules of your own."""
    from formwright.nn.listing import listed_parts

    found = listed_parts(pattern, kind=kind)
    if not found:
        kinds = sorted({facts.kind for facts in listed_parts()})
        which = f"of the kind {kind!r} " if kind else ""
        raise UserError(f"No part {which}matches {pattern!r}; the kinds are {', '.join(kinds)}.")
    if as_json:
        print_json([dataclasses.asdict(facts) for facts in found])
    else:
        print_parts(found)


@app.command()
def verify(
    systems: Annotated[list[str] | None, typer.Argument(help="Systems of the catalogue, such as poolformer.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All systems of the catalogue.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes minutes.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the claims of systems on this machine, and show published beside measured."""
    from formwright.catalog.verification import all_systems
    from formwright.catalog.verification import verify as run_claims

    if not systems and not every:
        raise UserError(f"Name systems to verify, or --all of them: {', '.join(all_systems())}.")
    with reporter(quiet=quiet or as_json) as listener:
        reports = run_claims(all_systems() if every else systems or [], quick=quick, reporter=listener)
    if as_json:
        print_json([report.to_json() for report in reports])
    else:
        print_claims(reports)
    if any(report.failed for report in reports):
        raise typer.Exit(1)


app.command(cls=TaskCommand)(compress)
app.command()(generate)
app.command()(scaling)
app.add_typer(bench, name="bench")
