"""A bar that says how far a long piece of work is."""

import contextlib
from typing import Any

import tqdm


def progress_bar(verbose: Any, total: int | None, unit: str) -> Any:
    """A context of a bar, or of None if `verbose` is 0; `"auto"`: after two seconds of work."""
    if verbose == 0:
        return contextlib.nullcontext()
    return tqdm.tqdm(total=total, delay=2.0 if verbose == "auto" else 0.0, unit=unit)
