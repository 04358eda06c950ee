"""Arguments that several commands take, and mistakes in them."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from rag.errors import DovetailError


class UsageError(DovetailError):
    """An argument on the command line that an operator refuses."""


@contextmanager
def refused_arguments() -> Iterator[None]:
    """Turn a ValueError raised inside, by an operator made from arguments, into a UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--json` and `--quiet`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, no progress")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
