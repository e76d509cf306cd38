"""How each command of this folder is started, and how it ends when it could not do its work."""

import signal
import sys
from collections.abc import Callable

import typer

from libs.common.errors import ConfigError
from loadtest.errors import CannotRun

NOT_MADE = 2


def run_command(main: Callable[..., None]) -> None:
    """Run `main` with the options of the command line. SIGTERM ends it as Ctrl-C does. A CannotRun or ConfigError
    becomes its sentence and exit code 2."""
    heed_sigterm()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except (CannotRun, ConfigError) as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(NOT_MADE)


def heed_sigterm() -> None:
    """From here on SIGTERM ends this process as Ctrl-C does, so that what it started is ended on the way out."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
