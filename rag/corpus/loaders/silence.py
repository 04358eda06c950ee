"""Silence for parsers that log or warn about files which they can read all the same."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silent(logger: str) -> Iterator[None]:
    """Drop warnings, and what a logger and its children say, until the block ends.

    Changes the process's warning filters meanwhile, so other threads may lose warnings too.

    Args:
        logger: name of the library's top logger.
    """
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
