"""Where the program starts. Nothing else is imported before Ctrl-C is heeded."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program and end the process with its exit code."""
    try:
        from moeret_cli.ending import run

        code = run()
    except KeyboardInterrupt:  # while modules were read; a verb that is interrupted ends in `run`
        from moeret_cli.render import note

        note("interrupted")
        code = 130
    sys.exit(code)
