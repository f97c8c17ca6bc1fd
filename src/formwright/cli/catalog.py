"""``formwright catalog``: what there is, what a system is, and which to take."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from formwright.cli.output import console
from formwright.cli.terminal import print_json

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
#: How many matches are shown.
SHOWN = 15


class WordsOrCommand(TyperGroup):
    """A group whose arguments are words to search for where the first is not one of its commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "--help"):
            args = ["search", *args]
        return super().parse_args(ctx, args)


catalog = typer.Typer(cls=WordsOrCommand, help="Find systems by words, task, mechanism, rung or year.")


@catalog.callback()
def group() -> None:
    """Find systems by words, task, mechanism, rung or year; show one; or be told which to take.

    formwright catalog WORDS is short for formwright catalog search WORDS.
    """


@catalog.command()
def search(
    words: Annotated[list[str] | None, typer.Argument(help="What is looked for; all systems if left out.")] = None,
    task: Annotated[str | None, typer.Option(help="Only systems for this task, such as forecasting.")] = None,
    mechanism: Annotated[str | None, typer.Option(help="Only this mechanism, such as linear-attention.")] = None,
    rung: Annotated[
        str | None,
        typer.Option(help="Only from this rung up: built, equal, trained or measured; or none, guide or stale."),
    ] = None,
    year: Annotated[
        str | None, typer.Option(help="Only of this year, or of a range such as 2021-2023 or 2023-.")
    ] = None,
    licences: Annotated[
        bool, typer.Option("--licences", help="Show whose code each follows, and its licence.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find systems by words, task, mechanism, rung or year; say why each matches."""
    from formwright.catalog.search import Filters
    from formwright.catalog.search import search as find

    filters = Filters(task=task, mechanism=mechanism, rung=rung, year=year)
    matches = find(None if words is None else " ".join(words), filters)
    if as_json:
        print_json([_as_json(match) for match in matches])
    elif licences:
        _print_licences(matches)
    else:
        _print_matches(matches, ranked=words is not None)
    _say_what_is_damaged()


@catalog.command()
def show(
    system: Annotated[str, typer.Argument(help="Id of a system, such as poolformer.")],
    as_json: Json = False,
) -> None:
    """Show all that the catalogue knows of a system: its card, rung, results and models."""
    show_system(system, as_json=as_json)
    _say_what_is_damaged()


@catalog.command()
def recommend(
    task: Annotated[str, typer.Option(help="What the model is to do, such as image-classification.")],
    length: Annotated[int | None, typer.Option(help="Tokens of one input.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Most time for one input, such as 5ms.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Largest model, such as 4MB.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Samples to learn from.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="There is a trained model already.")] = False,
    as_json: Json = False,
) -> None:
    """Say which methods fit a task and its constraints, why, and what was measured of them."""
    from formwright.catalog.decisions import Need
    from formwright.catalog.decisions import recommend as advise
    from formwright.measurement.budget import parse_latency, parse_size

    need = Need(
        task,
        length=length,
        max_latency=None if max_latency is None else parse_latency(max_latency),
        max_size=None if max_size is None else parse_size(max_size),
        train_size=train_size,
        pretrained=pretrained,
    )
    advice = advise(need)
    if as_json:
        print_json([_advice_json(one) for one in advice])
    else:
        _print_advice(advice, task)
    _say_what_is_damaged()


def show_system(system: str, *, as_json: bool) -> None:
    """Print the card of a system, or of the system that a named model belongs to."""
    from formwright.catalog.cards import card_of
    from formwright.catalog.results import read_results, standing
    from formwright.cli.listing import listed

    card = card_of(system)
    results = read_results()[0].get(card.id)
    now = standing(card, results)
    models = [model for model in listed() if card.family is not None and model.family == card.family]
    if as_json:
        print_json(
            {
                **card.model_dump(mode="json"),
                "built": card.built,
                "rung": now.rung,
                "stale": now.stale,
                "models": {model.name: model.parameters for model in models},
                "results": None if results is None else results.model_dump(mode="json"),
            }
        )
        return
    from formwright.measurement.budget import format_count

    console.print(f"[bold]{card.id}[/bold]  {escape(card.title)}", highlight=False)
    console.print(escape(card.summary), highlight=False)
    table = _facts()
    paper = f"arXiv {card.arxiv}, {card.year}" if card.arxiv else str(card.year)
    rows = {
        "paper": paper,
        "kind": ", ".join(card.kind),
        "tasks": ", ".join(card.tasks),
        "mechanisms": ", ".join(card.mechanisms),
        "cost": "" if card.cost is None else f"time {card.cost.time}; memory {card.cost.memory}",
        "rung": f"{now.rung}{', stale: the code changed since' if now.stale else ''}",
        "use it when": card.use_when,
        "do not when": card.avoid_when,
        "code": f"{card.authors_code} ({card.licence})" if card.authors_code else "",
        "lives in": card.module or "",
        "parts": ", ".join(card.parts),
        "published": "\n".join(f"{one.figure}: {one.of}" for one in card.published),
        "notes": "\n".join(card.notes),
        "missing": "\n".join(card.missing),
        "models": "\n".join(f"{model.name}  {format_count(model.parameters)} parameters" for model in models),
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, escape(text))
    console.print(table, highlight=False)
    if results is not None:
        _print_results(results)
    elif card.built:
        console.print(f"No results are recorded; formwright verify {card.id} runs its claims.", highlight=False)


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _print_results(results: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("claim", "published", "measured", ""):
        table.add_column(column, overflow="fold")
    for name, claim in results.claims.items():
        verdict = "broken" if claim.error else "holds" if claim.holds else "does not hold"
        table.add_row(*map(escape, (name, claim.published, claim.measured, verdict)))
    console.print(table, highlight=False)
    for run in results.runs:
        extent = "quick" if run.quick else "full"
        told = f"{run.date}, {extent}, {run.seconds:g} s on {run.processor}, PyTorch {run.versions.get('torch', '?')}"
        console.print(f"[dim]{escape(told)}[/dim]", highlight=False)


def _print_matches(matches: list[Any], *, ranked: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("system", "year", "rung", "title", *(["why"] if ranked else [])):
        table.add_column(column, overflow="fold", no_wrap=column == "system")
    for match in matches[: SHOWN if ranked else None]:
        card, now = match.entry.card, match.entry.standing
        rung = now.rung if card.built or now.rung == "guide" else "not built"
        cells = [card.id, str(card.year), f"{rung}{' (stale)' if now.stale else ''}", card.title]
        table.add_row(*map(escape, [*cells, *([", ".join(match.why)] if ranked else [])]))
    console.print(table, highlight=False)
    if ranked and len(matches) > SHOWN:
        console.print(f"{len(matches) - SHOWN} more match less well; --json gives all.", highlight=False, style="dim")


def _print_licences(matches: list[Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("system", "authors' code", "its licence"):
        table.add_column(column, overflow="fold")
    for match in matches:
        card = match.entry.card
        table.add_row(*map(escape, (card.id, card.authors_code or "", card.licence)))
    console.print(table, highlight=False)


def _print_advice(advice: list[Any], task: str) -> None:
    for one in advice:
        console.print(f"[bold]{escape(one.rule.question)}[/bold] Yes. {escape(one.rule.advice)}", highlight=False)
        console.print(f"[dim]{escape(one.rule.reason)} ({one.rule.source})[/dim]", highlight=False)
        table = Table(box=None, show_header=False, pad_edge=False)
        for index in range(3):
            table.add_column(overflow="fold", no_wrap=index < 2)
        for choice in one.alternatives[:SHOWN]:
            rung = choice.standing.rung if choice.card.built else "not built"
            measured = [
                f"measured ({processor}): {claim.statement}: {claim.measured}"
                + ("" if claim.holds else " (does not hold)")
                for _, claim, processor in choice.measured
            ]
            told = "\n".join([choice.card.use_when or choice.card.title, *(measured or ["no measurement is recorded"])])
            table.add_row(*map(escape, (choice.card.id, rung, told)))
        if one.alternatives:
            console.print(table, highlight=False)
        else:
            console.print(f"No system of the catalogue does this for {task}.", highlight=False)
        console.print()


def _as_json(match: Any) -> dict[str, Any]:
    card, now = match.entry.card, match.entry.standing
    return {
        **card.model_dump(
            mode="json", include={"id", "title", "arxiv", "year", "kind", "tasks", "mechanisms", "licence"}
        ),
        "authors_code": card.authors_code,
        "built": card.built,
        "rung": now.rung,
        "stale": now.stale,
        "score": round(match.score, 3),
        "why": list(match.why),
    }


def _advice_json(one: Any) -> dict[str, Any]:
    return {
        "question": one.rule.question,
        "advice": one.rule.advice,
        "reason": one.rule.reason,
        "source": one.rule.source,
        "systems": [
            {
                "id": choice.card.id,
                "built": choice.card.built,
                "rung": choice.standing.rung,
                "use_when": choice.card.use_when,
                "measured": [
                    {"claim": name, "measured": claim.measured, "holds": claim.holds, "processor": processor}
                    for name, claim, processor in choice.measured
                ],
            }
            for choice in one.alternatives
        ],
    }


def _say_what_is_damaged() -> None:
    """Name results files that cannot be read, and end with 1 if there are any."""
    from formwright.catalog.results import read_results

    _, problems = read_results()
    for problem in problems:
        print(f"formwright: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)
