"""`dovetail precompute`: encode every passage of an index into its KV store."""

import argparse
from dataclasses import asdict
from pathlib import Path

from pipelines.cli.arguments import UsageError, add_output_arguments
from pipelines.cli.model_arguments import add_model_arguments
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from rag.tracing.wording import byte_size

_EXAMPLE = """\
Without it the first question about a passage encodes and stores it. Interrupt it at any moment:
the next run goes on.

example:
  dovetail precompute notes.idx --kv-disk 20GB"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("index", metavar="DIR", type=Path, help="index folder")
    add_model_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Say what it will cost, fill the store, and say what was done."""
    from kvstore.precompute import Precompute
    from kvstore.store import KVStore
    from pipelines.index_folder import open_index
    from rag.generation.engine import Engine
    from rag.generation.prompt import PromptEncoder
    from rag.models.language_model import load_language_model

    index = open_index(args.index)
    loaded = load_language_model(args.model, dtype=args.dtype, download=args.download)
    engine = Engine(loaded.model, loaded.identity, placed_bytes=args.kv_ram)
    prompt = PromptEncoder(loaded.tokenizer, loaded.identity)
    prefix = prompt.prefix()
    segments = [prefix, *(prompt.passage(p, prefix) for p in index.passages.values())]
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
        KVStore(index.kv_folder, ram_bytes=0, disk_bytes=args.kv_disk) as store,
        progress(quiet=args.quiet or args.json) as watched,
    ):
        watched.stage("encoding passages", len(segments))
        done = 0

        def advance(now: int, _total: int) -> None:
            nonlocal done
            watched.advance(now - done)
            done = now

        fill = Precompute(store, lambda batch: [engine.encode(segment) for segment in batch])
        report = fill(segments, progress=advance)
    if args.json:
        say_json(
            {
                "index": str(args.index),
                "model": args.model,
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
