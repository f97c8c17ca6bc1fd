"""``fit``: from data and a budget to a measured, exported model with a report."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from formwright.errors import CandidateError, UserError
from formwright.files import atomic_path, read_json, remove_leftovers
from formwright.fitting.bench import Bench
from formwright.fitting.clock import Clock
from formwright.fitting.curves import Curves, check_tensorboard
from formwright.fitting.final import learn_the_rest, solver_seconds
from formwright.fitting.journal import Journal, told_on_standard_error
from formwright.fitting.kind import Reading
from formwright.fitting.memory import is_in_memory, write_data
from formwright.fitting.peer import plain_peer as train_plain_peer
from formwright.fitting.peer import simple_competitors
from formwright.fitting.race import (
    FIT_SHARE,
    finish_winner,
    fit_competitors,
    race,
    replace_winner,
    winner,
)
from formwright.fitting.records import FitResult
from formwright.fitting.session import Session
from formwright.fitting.ship import ship, trivial_baselines, write_result
from formwright.fitting.shortlist import RACE_MOST, RACE_SHARE, SHORTLIST_SHARE, shortlist
from formwright.fitting.shrink import choose, export_winner, shrink
from formwright.fitting.state import (
    CURVES_FOLDER,
    DEFAULT_TIME,
    LOG_FILE,
    RESULT_FILE,
    SPLITS_FILE,
    RunFolder,
    results_folder,
)
from formwright.fitting.task import Task, find_task
from formwright.fitting.teaching import ANSWER_SHARE, TEACHER_SHARE, teach, teachers
from formwright.fitting.work import perform
from formwright.hub import located
from formwright.measurement.budget import Budget, Quantity
from formwright.models.pretrained import read_pretrained
from formwright.reporting import SILENT, Reporter
from formwright.search.executors import InProcess, WorkerProcess

#: Shares of the time that are kept for the last two stages, the least they need, and the most that pays.
SHRINK_SHARE, SHRINK_LEAST, SHRINK_MOST = 0.15, 18.0, 60.0
SHIP_SHARE, SHIP_LEAST = 0.05, 8.0
#: Share of the time in which what was chosen learns once more, and the most of it where a solver takes longer.
REFIT_SHARE, MOST_REFIT_SHARE = 0.12, 0.3
#: The same where everything is learned at the end.
LEARN_ALL_SHARE = 0.25
SHORTEST_RUN = 45.0
#: A worker process costs a start of some seconds; for runs of so many seconds it is far below a twentieth.
WORKER_PAYS = 120.0
REMEDY = "train them in the process of the run itself (--no-worker)"
WORKER = (sys.executable, "-m", "formwright.fitting.worker")


def fit(
    data: Any = None,
    *,
    out: str | Path | None = None,
    task: str | None = None,
    max_latency: Quantity = None,
    max_size: Quantity = None,
    max_macs: Quantity = None,
    max_time: Quantity = None,
    seed: int = 0,
    weights: str | Path | Sequence[str | Path] | None = None,
    families: str | Sequence[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
    threads: int | None = None,
    device: str = "auto",
    plain_peer: bool = False,
    tensorboard: bool = False,
    worker: bool | None = None,
    reporter: Reporter | None = None,
    **task_options: Any,
) -> FitResult:
    """Find, train, shrink and export the model that fits the data and the budget.

    Args:
        data: what each task reads is in its documentation; for pictures a folder with a sub-folder a class, an
            ``.npz`` or IDX file; scikit-learn's digits if unset. Or what a program holds: a DataFrame, or a pair of
            samples (pictures, series or texts) and their classes (:mod:`formwright.fitting.memory`).
        out: the folder for the results, new or empty; if unset ``runs/fit``, or ``runs/fit-2`` and so on where that is
            taken.
        task: what is to be learned, such as ``image-classification``; inferred from the data if unset.
        max_latency: of one input through the exported model on this machine: ``"5ms"``, or seconds.
        max_size: of the exported file: ``"4MB"``, or bytes.
        max_macs: multiply-accumulates for one input: ``"100M"``.
        max_time: of the whole run: ``"15m"``, or seconds; 15 minutes if unset, or those of the run that is continued.
        seed: of splits, weights, order and augmentation.
        weights: what exists already: the folder of a saved model, of transformers or of timm, a published checkpoint,
            or ``hf:ORG/NAME`` or ``timm:NAME`` of a hub; or several. Fine-tuned and frozen, each joins the race, and
            one that misses the budget teaches those that meet it.
        families: of models that alone are tried, such as ``"resnet,convnext"``; all that the task knows if unset.
        resume: continue the run in ``out``; with a longer ``max_time`` one that is finished, too.
        overwrite: replace the run that ``out`` holds, once the data can be used.
        skip_bad: leave out samples that cannot be read, instead of refusing the data.
        threads: processor threads, all if unset.
        device: where candidates learn: ``cpu``, ``cuda`` or ``mps``; the best that there is if unset. Latency is that
            of the processor in any case.
        plain_peer: train the plain model of the report for as long as the winner, beyond ``max_time``.
        tensorboard: write the scores of candidates to ``out/tensorboard``, as they come, for TensorBoard to draw.
        worker: build and train candidates in a process of its own, so that one that crashes or takes too much memory
            costs this candidate and not the run; if unset, for runs of :data:`WORKER_PAYS` seconds or more (not on
            Windows). It reads the data, too.
        reporter: hears of the progress; if unset, it is told on standard error where nobody has set up the logger
            ``formwright``, which hears all in any case.
        task_options: what the task takes beyond that, such as ``text_column`` for the classification of texts.

    Returns:
        Everything that was found; the same is in ``out/metrics.json``, and as a page in ``out/report.html``.

    Raises:
        UserError: the data, the budget, the folder or an option cannot be used; one sentence says why and what to do.
    """
    started, journal = time.monotonic(), Journal(reporter or SILENT)
    given = {name: value for name, value in task_options.items() if value is not None}
    if resume and overwrite:
        raise UserError("A run is continued (--resume) or replaced (--overwrite), not both; leave one of them out.")
    root = results_folder(out, again=resume or overwrite)
    if max_time is None:
        max_time = (RunFolder.option_of(root, "max_time") if resume else None) or DEFAULT_TIME
    budget = Budget.parse(max_latency=max_latency, max_size=max_size, max_macs=max_macs, max_time=max_time)
    if budget.time is None or budget.time < SHORTEST_RUN:
        raise UserError(f"A run needs at least {SHORTEST_RUN:.0f} seconds (--max-time), got {max_time}: give it more.")
    if not 0 <= seed < 2**31:
        raise UserError(f"The seed is a whole number from 0 to {2**31 - 1} (--seed), got {seed}.")
    if threads is not None and threads < 1:
        raise UserError(f"A run needs at least one processor thread (--threads), got {threads}.")
    check_device(device)
    if tensorboard:
        check_tensorboard()
    held = tempfile.TemporaryDirectory(prefix="formwright-") if is_in_memory(data) else None
    path = write_data(data, Path(held.name)) if held else None if data is None else Path(data).expanduser()
    kept = path if held is None or path is None else root / path.name
    kind, reason = find_task(path, task or (RunFolder.option_of(root, "task") if resume else None), given)
    named = [name.strip() for name in families.split(",")] if isinstance(families, str) else list(families or ())
    given_weights = [weights] if isinstance(weights, str | Path) else list(weights or ())
    if given_weights:  # before anything is downloaded
        kind.check_takes_weights()
    if not resume:
        RunFolder.check(root, overwrite=overwrite)
    starts = [str(located(one, journal).resolve()) for one in given_weights]
    options = {
        "data": None if kept is None else str(kept.resolve()),
        "task": kind.name,
        "max_latency": budget.latency,
        "max_size": budget.size,
        "max_macs": budget.macs,
        "max_time": budget.time,
        "seed": seed,
        "skip_bad": skip_bad,
        "weights": starts or None,
        "families": named or None,
        "options": given,
    }
    threads = threads or os.cpu_count() or 1
    if worker is None:
        worker = budget.time >= WORKER_PAYS and sys.platform != "win32"
    folder = None
    if resume:
        folder = RunFolder.open(root, options)
        if budget.time > folder.state.options["max_time"]:
            folder.give_time(budget.time)
        if folder.finished:
            folder.release()
            journal.note("This run was finished already; it goes on with a longer --max-time.")
            return _located(FitResult.from_dict(read_json(root / RESULT_FILE)), root)
    with ExitStack() as stack:
        if reporter is None:
            stack.enter_context(told_on_standard_error())
        journal.event("start", options=options, resumed=resume)
        if held is not None:
            stack.callback(held.cleanup)
        if folder is not None:
            stack.callback(folder.release)
        process = None
        if worker:  # it reads the data while this process does
            where = None if path is None else str(path.resolve())
            setup = {
                "options": {**options, "data": where},
                "folder": str(root.resolve()),
                "threads": threads,
                "device": device,
            }
            process = stack.enter_context(closing(WorkerProcess(WORKER, setup, remedy=REMEDY)))
            process.launch()
        pretrained = [read_pretrained(start) for start in starts]
        journal.stage("Reading the data")

        def show(done: int, total: int) -> None:
            journal.progress(done / max(total, 1), f"{done} of {total} {kind.data.samples}")

        # The data first: nothing is left behind when it cannot be used.
        learned = kind.read(path, Reading(seed, skip_bad, pretrained, show, given, budget.size, root, named))
        folder = _with_splits(learned, folder, root, options, overwrite)
        if held is not None and path is not None and kept is not None:  # so that the run can be continued
            with atomic_path(kept) as temporary:
                shutil.copyfile(path, temporary)
        journal.open(root / LOG_FILE, folder.state.spent + time.monotonic() - started)
        if tensorboard:
            journal.add(Curves(root / CURVES_FOLDER, learned.metric))
        if reason and path is not None:
            journal.note(f"Task: {kind.name}, as DATA is {reason} (--task changes it).")
        for note in learned.data.notes:
            journal.note(note)
        bench = Bench(learned, root, seed=seed, threads=threads, device=device)
        session = Session(
            task=learned,
            budget=budget,
            folder=folder,
            clock=Clock(budget.time, spent=folder.state.spent + time.monotonic() - started, stages=folder.state.stages),
            reporter=journal,
            executor=process or InProcess(partial(perform, bench)),
            seed=seed,
            threads=threads,
            precision=folder.state.facts.get("precision", "32-true"),
            plain_peer=plain_peer,
            source=None if held is None or kept is None else str(kept.resolve()),
        )
        return _located(_finished(session), root)


def check_device(device: str) -> None:
    """Raise a ``UserError`` unless there is such a device here."""
    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        able = ", ".join(name for name, able in there.items() if able)
        raise UserError(f"There is no device {device!r} here; choose one of {able} (--device).")


def _located(result: FitResult, root: Path) -> FitResult:
    result.folder = str(root)
    return result


def _with_splits(
    learned: Task, folder: RunFolder | None, root: Path, options: dict[str, Any], overwrite: bool
) -> RunFolder:
    """The folder of a run, new or continued, with the parts of its data."""
    content = learned.data.content
    if folder is not None:
        if not (root / SPLITS_FILE).is_file():  # killed before anything was done with them
            content.save_splits(root / SPLITS_FILE)
        content.check_splits(root / SPLITS_FILE)
        return folder
    folder = RunFolder.create(root, options, overwrite=overwrite)
    try:
        content.save_splits(root / SPLITS_FILE)
    except UserError:
        folder.discard()
        raise
    return folder


def _finished(session: Session) -> FitResult:
    """Run all stages, and leave the folder as it can be continued, whatever happens."""
    previous = torch.get_num_threads()
    torch.set_num_threads(session.threads)
    try:
        return _run(session)
    except UserError as error:
        raise _stopped(session, error) from error
    except KeyboardInterrupt:
        session.save()
        raise
    finally:
        session.executor.close()
        remove_leftovers(session.folder.root)
        session.folder.release()
        torch.set_num_threads(previous)
        session.reporter.close()


def refitting(session: Session) -> float:
    """Seconds that are kept for what was chosen to learn once more, and to be exported."""
    limit = session.clock.limit
    share = LEARN_ALL_SHARE if session.task.data.learns_all else REFIT_SHARE
    exports = (2 if session.task.data.few else 1) * float(session.folder.state.facts.get("export_seconds", 0.0))
    return max(share * limit, min(solver_seconds(session) + exports, MOST_REFIT_SHARE * limit))


def _run(session: Session) -> FitResult:
    clock, state, reporter = session.clock, session.folder.state, session.reporter
    limit = clock.limit
    ship_seconds = max(SHIP_SHARE * limit, SHIP_LEAST)
    shrink_seconds = min(max(SHRINK_SHARE * limit, SHRINK_LEAST), SHRINK_MOST)
    refit_seconds = refitting(session)
    training_end = limit - ship_seconds - refit_seconds - shrink_seconds
    if not state.trials:
        reporter.stage("Measuring candidates", SHORTLIST_SHARE * limit)
        with clock.stage("shortlist"):
            shortlist(session, training_end - clock.spent)
    if state.winner is None:
        left = training_end - clock.spent
        if any(trial.fitted and trial.status == "waiting" for trial in state.trials):
            reporter.stage("Fitting simple competitors", FIT_SHARE * left)
            with clock.stage("race"):
                fit_competitors(session, left)
        refit_seconds = refitting(session)
        training_end = limit - ship_seconds - refit_seconds - shrink_seconds
        if teachers(session) and "teach" not in state.finished:
            seconds = (TEACHER_SHARE + ANSWER_SHARE) * left
            reporter.stage("Training a teacher", seconds)
            with clock.stage("teach"):
                teach(session, seconds)
        seconds = min(RACE_SHARE * max(training_end - clock.spent, 10.0), RACE_MOST)
        reporter.stage("Racing", seconds)
        with clock.stage("race"):
            race(session, seconds)
    while "export" not in state.finished:
        if "train" not in state.finished:
            seconds = max(training_end - clock.spent, 2.0)
            reporter.stage("Training the winner", seconds)
            with clock.stage("train"):
                finish_winner(session, seconds)
        with clock.stage("train"):
            try:
                export_winner(session, winner(session))
            except CandidateError as error:
                state.finished.remove("train")
                replace_winner(session, error)
                continue
            state.finished.append("export")
            session.save()
    refit_seconds = refitting(session)
    if "shrink" not in state.finished:
        reporter.stage("Shrinking", shrink_seconds)
        with clock.stage("shrink"):
            shrink(session, limit - ship_seconds - refit_seconds)
            state.finished.append("shrink")
            session.save()
    chosen = choose(state.variants, session.task.metric, state.trials)
    reporter.stage("Learning the rest", refit_seconds)
    with clock.stage("refit"):
        shipment = learn_the_rest(session, chosen, limit - ship_seconds)
    reporter.stage("Shipping", ship_seconds)
    with clock.stage("ship"):
        train_plain_peer(session, chosen, to_the_end=False)
        simple_competitors(session, chosen)
        trivial_baselines(session, seconds=min(20.0, max(0.3 * clock.left, 1.0)))
        result = ship(session, shipment)
    if session.plain_peer:
        plain = session.task.space.plain
        with clock.stage(plain[0] if plain else "plain model"):
            train_plain_peer(session, chosen, to_the_end=True)
        result.baselines, result.notes = state.baselines, state.notes
    write_result(session, result)
    score = result.test[session.task.metric.key]
    reporter.event("end", f"Shipped {result.model}", model=result.model, score=session.task.metric.score(score))
    return result


def _stopped(session: Session, error: UserError) -> UserError:
    """What to tell of an error in the midst of a run: one in which nothing was trained leaves nothing behind."""
    trials = session.folder.state.trials
    if not any(trial.curve and trial.status != "failed" for trial in trials):
        session.folder.discard()
        return error
    return UserError(f"{str(error).removesuffix('.')}; what is finished is kept, so continue with --resume.")
