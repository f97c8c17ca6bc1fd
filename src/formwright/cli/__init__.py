"""The command line: it parses, calls the library and prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: users' mistakes become one sentence and exit code 2."""
    from formwright.cli.app import app
    from formwright.errors import UserError

    try:
        app()
    except UserError as error:
        print(f"formwright: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("formwright: interrupted", file=sys.stderr)
        sys.exit(130)
