"""The command line of a trainer: flags to settings, errors to one line."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from trainers.settings import Settings, parse


def run(
    main: Callable[[Any], Any],
    recipes: dict[str, Settings],
    description: str | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Parse the flags and call `main` with the settings.

    Args:
        main: The program.
        recipes: Settings by data set, whose values are the defaults of the flags.
        description: What the program does, for `--help`.
        argv: Arguments; those of the process by default.

    Raises:
        SystemExit: With code 2 and one line on standard error, if something the user can mend
            went wrong; with code 130 if it was interrupted.
    """
    settings = parse(recipes, description, argv)
    try:
        main(settings)
    except (OSError, RuntimeError, ValueError) as error:
        _stop(2, f"error: {error}", error)
    except KeyboardInterrupt as error:
        _stop(130, "interrupted", error)


def _stop(code: int, line: str, error: BaseException) -> None:
    notes = getattr(error, "__notes__", [])
    print(" ".join(". ".join([line.rstrip("."), *notes]).split()), file=sys.stderr)
    raise SystemExit(code) from error
