"""`dovetail precompute`: encode every passage of an index or of corpora into the KV store."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError, add_output_arguments
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.pipeline_arguments import add_plugin_argument
from pipelines.cli.prompt_arguments import GENERATOR, add_prompt_argument
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from rag.tracing.wording import byte_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag.records import Passage

BATCH = 8
"""Passages between two steps of the progress bar, at least; where more are encoded in one forward
pass, as many as that."""
_EXAMPLE = """\
Without it the first question about a passage encodes and stores it. Interrupt it at any moment:
the next run goes on. A passage's KV depends on the prompt before it and on the model's adapter:
give the --prompt and the --adapter that you ask with, or the pipeline file whose step
generate.cached has a prompt of your own.

examples:
  dovetail precompute notes.idx --kv-disk 20GB
  dovetail precompute notes.idx --prompt chat
  dovetail precompute notes.idx -p my-pipeline.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("index", metavar="DIR", type=Path, help="index folder, or one of corpora")
    prompt = parser.add_mutually_exclusive_group()
    add_prompt_argument(prompt)
    prompt.add_argument(
        "-p", "--pipeline", metavar="RECIPE", help="take the prompt of this recipe or file"
    )
    add_plugin_argument(parser)
    add_model_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Say what it will cost, fill the store, and say what was done."""
    from kvstore.precompute import Precompute
    from kvstore.store import KVStore
    from rag.generation.local_model import LocalModel
    from rag.training.watching import counting_up

    passages, folder = _indexed(args.index)
    wanted = _prompt(args)
    lm = LocalModel.open(args.model, args.dtype, args.download, args.kv_ram, args.adapter)
    engine, prompt = lm.engine(), lm.prompt_of(wanted)
    prefix = prompt.prefix()
    segments = [prefix, *(prompt.passage(p, prefix) for p in passages.values())]
    tokens = sum(len(segment) for segment in segments)
    total = tokens * engine.kv_bytes_per_token
    each = total // len(segments)
    if not args.json:
        remark(
            f"{plural(len(segments) - 1, 'passage')}, {tokens:,} tokens, "
            f"{byte_size(engine.kv_bytes_per_token)} a token: "
            f"{byte_size(each)} a passage, {byte_size(total)} in all"
        )
    if total > args.kv_disk:
        raise UsageError(
            f"all passages need {byte_size(total)}, --kv-disk allows "
            f"{byte_size(args.kv_disk)}; raise it, or let `ask` store what is asked about"
        )
    with (
        KVStore(folder, ram_bytes=0, disk_bytes=args.kv_disk) as store,
        progress(quiet=args.quiet or args.json) as watched,
    ):
        watched.stage("encoding passages", len(segments))
        advance = counting_up(watched)
        at_once = max(BATCH, engine.pass_tokens * len(segments) // tokens)
        report = Precompute(store, engine.encode_all)(
            segments, batch=at_once, progress=lambda done, _total: advance(done)
        )
    if args.json:
        say_json(
            {
                "index": str(args.index),
                "model": args.model,
                "adapter": lm.adapter,
                "bytes_per_token": engine.kv_bytes_per_token,
                "bytes_per_passage": each,
                "projected_bytes": total,
                **asdict(report),
            }
        )
    else:
        say(
            f"{report.stored:,} stored ({byte_size(report.bytes)}), {report.skipped:,} were there, "
            f"{report.seconds:.1f} s"
        )
        if report.failed or report.remaining:
            remark(
                f"{report.failed:,} could not be written and {report.remaining:,} were not "
                "reached: is the disk full?"
            )
    return 1 if report.failed or report.remaining else 0


def _indexed(folder: Path) -> "tuple[Mapping[str, Passage], Path]":
    """Return the passages of an index, or of all corpora, and where their KV lies."""
    from pipelines.corpora.opening import holds_corpora, open_corpora
    from pipelines.index_folder import KV, open_index

    if holds_corpora(folder):
        return open_corpora(folder).passages, folder / KV
    index = open_index(folder)
    return index.passages, index.kv_folder


def _prompt(args: argparse.Namespace) -> Any:
    """Return the prompt that the arguments name, or that of the pipeline's generating step."""
    if args.pipeline is None:
        return args.prompt or "auto"
    from pipelines.catalogue.plugins import with_plugins
    from pipelines.loading import load_answering

    pipeline = load_answering(args.pipeline, catalogue=with_plugins(args.plugins)).require_valid()
    bound = pipeline.checked.steps.values()
    found = [one.options.get("prompt", "auto") for one in bound if one.spec.name == GENERATOR]
    if not found or any(other != found[0] for other in found):
        raise UsageError(
            f"{args.pipeline!r} must have one prompt of {GENERATOR}, got {len(found)}; use --prompt"
        )
    return found[0]
