"""The folder that a training writes: whether it may, and how it goes on there."""

from pathlib import Path

from pipelines.cli.arguments import UsageError


def check_training_folder(out: Path, *, resume: bool, begun: str = "") -> None:
    """Refuse a folder that cannot be written, or whose content would be lost.

    Args:
        out: the folder, which need not exist.
        resume: whether the training in it is to go on.
        begun: a file that a training has from its beginning, before it has a state; with it there,
            too, it can go on.

    Raises:
        UsageError: if it is a file, holds a model, or an interrupted training that is not to go
            on; or if there is none to go on with.
    """
    from rag.training.run_state import has_state

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder, got the file {out}")
    if resume:
        if not has_state(out) and not (begun and (out / begun).is_file()):
            raise UsageError(f"--resume needs the state of a training in {out}, found none")
    elif has_state(out):
        raise UsageError(f"{out} holds an interrupted training: add --resume, or choose another")
    elif (out / "config.json").exists():
        raise UsageError(f"{out} holds a model already; choose another folder")


def require_numbers(
    given: object, at_least_one: tuple[str, ...], above_zero: tuple[str, ...]
) -> None:
    """Refuse numbers out of range; those that are not given are None.

    Args:
        given: arguments, as argparse returned them.
        at_least_one: names of arguments that must be at least 1.
        above_zero: names of arguments that must be above 0.

    Raises:
        UsageError: naming the first that is wrong.
    """
    for name in at_least_one:
        value = getattr(given, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    for name in above_zero:
        value = getattr(given, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
