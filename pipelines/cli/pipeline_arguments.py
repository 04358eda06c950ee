"""Arguments of the commands that load a pipeline, and what they open with them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError
from pipelines.cli.model_arguments import DTYPES, MODEL_NAMES, add_adapter_argument, size

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline


def add_pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--set` and `--plugin`."""
    parser.add_argument(
        "--set",
        metavar="STEP.OPTION=VALUE",
        action="append",
        default=[],
        dest="sets",
        help="change an option of a step, or vars.NAME; may be repeated",
    )
    add_plugin_argument(parser)


def add_plugin_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--plugin`."""
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        dest="plugins",
        help="a Python file with operators of your own; it is run",
    )


def add_resource_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what binds the resources `index` and `lm`."""
    group = parser.add_argument_group("resources")
    group.add_argument("-i", "--index", metavar="DIR", type=Path, help="binds the index")
    group.add_argument("--model", metavar="NAME", help=f"binds lm: smollm2-135m, {MODEL_NAMES}")
    add_adapter_argument(group)
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="default: auto, the fastest")
    group.add_argument(
        "--download", action="store_true", help="allow to fetch a model of a known short name"
    )
    group.add_argument(
        "--kv-ram", metavar="SIZE", type=size, default=size("4GB"), help="RAM for KV (default: 4GB)"
    )
    group.add_argument(
        "--kv-disk", metavar="SIZE", type=size, default=size("10GB"), help="disk (default: 10GB)"
    )


def loaded(
    args: argparse.Namespace,
    source: str,
    sets: list[str] | None = None,
    *,
    answering: bool = False,
) -> "Pipeline":
    """Return the pipeline that the arguments name, with its resources bound as far as they say.

    Args:
        args: of the command.
        source: recipe or file.
        sets: overrides; None means those of the arguments.
        answering: whether one that ends with passages is to go on to an answer.

    Raises:
        InvalidPipelineError: with every mistake in it.
    """
    from pipelines.catalogue.plugins import with_plugins
    from pipelines.loading import load_answering, load_pipeline

    catalogue = with_plugins(args.plugins)
    load = load_answering if answering else load_pipeline
    pipeline = load(source, sets=args.sets if sets is None else sets, catalogue=catalogue)
    return pipeline.bind(**resources(args))


def resources(args: argparse.Namespace) -> dict[str, Any]:
    """Return the resources that `add_resource_arguments` binds, to be opened when needed."""
    from pipelines.flow.blocks import ResourceUse
    from pipelines.language_model import language_model

    found: dict[str, Any] = {}
    if args.index is not None:
        options = {
            "path": args.index,
            "download": args.download,
            "kv_ram": args.kv_ram,
            "kv_disk": args.kv_disk,
        }
        found["index"] = ResourceUse(use="index.folder", options=options)
    if args.model is None and args.adapter != "auto":
        raise UsageError(f"--adapter belongs to --model, got only --adapter {args.adapter}")
    if args.model is not None:
        found["lm"] = language_model(
            args.model,
            dtype=args.dtype,
            download=args.download,
            placed_bytes=args.kv_ram // 2,
            adapter=args.adapter,
        )
    return found
