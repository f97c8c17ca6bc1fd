"""The command line: it parses, calls the library and prints."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

#: What the package needs and the distribution that only predicts leaves out.
NOT_FOR_PREDICTION = frozenset(
    {
        "torch",
        "sklearn",
        "safetensors",
        "huggingface_hub",
        "jaxtyping",
        "lightning_fabric",
        "optuna",
        "onnx",
        "onnxscript",
        "yaml",
        "jinja2",
        "scipy",
        "statsmodels",
        "kornia",
        "torchmetrics",
    }
)
#: What a shell expects of a program that Ctrl-C ended.
INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: users' mistakes become one sentence and exit code 2."""
    from formwright.cli.terminal import PIPE_CLOSED, flush, prepare
    from formwright.interrupts import remembered

    prepare()
    try:
        with remembered():
            code = _run(list(sys.argv[1:] if args is None else args))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # as with | head: who reads has seen enough
        code = PIPE_CLOSED
    sys.exit(code if flush() else code or PIPE_CLOSED)


def _run(args: list[str]) -> int:
    import typer

    from formwright.cli.app import app
    from formwright.errors import UserError

    try:
        return app(args or ["--help"], prog_name="formwright", standalone_mode=False) or 0
    except typer.Abort:
        return _refuse("nothing was started.")
    except typer.TyperException as error:
        dashes = "" if args[:1] != ["predict"] else "put -- before texts that begin with -, or "
        return _refuse(f"{error.format_message().strip().removesuffix('.')}; {dashes}see the command's --help.")
    except UserError as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:  # of the distribution that only predicts
        if error.name is None or error.name.partition(".")[0] not in NOT_FOR_PREDICTION:
            raise
        return _refuse(
            f"This needs {error.name.partition('.')[0]}, which formwright-predict leaves out; install formwright in "
            "its place."
        )
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        remedy = "make room or give yourself the right, and try again"
        if error.errno == errno.ENAMETOOLONG:
            remedy, name = "check the path", f"{name[:80]}...: " if len(name) > 80 else name
        return _refuse(f"{name}{error.strerror or error}; {remedy}.")


def _refuse(sentence: str) -> int:
    print(f"formwright: {sentence}", file=sys.stderr)
    return 2
