"""Options of tasks on the command line, made of what kinds of data and goals declare.

They are made when a command that takes them is called, so that no other has to import tasks.
"""

from __future__ import annotations

import functools
import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

_GIVEN = "formwright.task_options"


class TaskCommand(TyperCommand):
    """A command that takes the options of every task; its function finds them by :func:`given`.

    In the help of its own parameters, ``{kinds}`` stands for the kinds of data that are read.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        from formwright.fitting.task import expected

        own: list[Any] = super().get_params(ctx)
        for one in own:
            one.help = one.help and one.help.replace("{kinds}", expected())
        return [*own[:-1], *task_parameters(), *own[-1:]]  # help is the last

    def invoke(self, ctx: Any) -> Any:
        ctx.meta[_GIVEN] = {one.name: ctx.params.pop(one.name) for one in task_parameters()}
        return super().invoke(ctx)


def given(context: typer.Context) -> dict[str, Any]:
    """The options of tasks that were given, by name."""
    found: dict[str, Any] = context.meta[_GIVEN]
    return {name: value for name, value in found.items() if value is not None}


@functools.cache
def task_parameters() -> list[Any]:
    """One parameter per option that some task declares; tasks that share one share its name and kind."""
    from formwright.fitting.task import task_types

    declared: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, type] = {}
    for task in task_types().values():
        for name, option in task.options.items():
            declared.setdefault(name, {}).setdefault(option.help, []).append(task.name)
            kinds[name] = option.kind
    parameters = []
    for name, helps in declared.items():
        text = "; ".join(f"{', '.join(tasks)}: {help}" for help, tasks in helps.items())
        annotation: Any = Annotated[
            kinds[name] | None, typer.Option(help=f"{text}.", rich_help_panel="Options of tasks")
        ]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    def options(**values: Any) -> None: ...

    options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    options.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(options)
    return [one for one in typer.main.get_command(app).params if one.name in kinds]
