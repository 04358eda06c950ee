"""`dovetail`: chooses a command, and turns its errors into one line and an exit status."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from rag.errors import DovetailError

# name: (module, one line). A module holds add_arguments(parser) and run(args) -> exit status, and
# imports nothing heavy before run.
COMMANDS = {
    "index": ("pipelines.cli.index", "make an index of documents, or bring one up to date"),
    "precompute": ("pipelines.cli.precompute", "fill the KV store, so that answers start sooner"),
    "ask": ("pipelines.cli.ask", "answer a question from an index, with citations"),
    "run": ("pipelines.cli.run", "run a pipeline file or a recipe"),
    "check": ("pipelines.cli.check", "find every mistake in a pipeline file"),
    "graph": ("pipelines.cli.graph", "draw a pipeline as text, SVG or mermaid"),
    "new": ("pipelines.cli.new", "copy a recipe, to edit"),
    "ops": ("pipelines.cli.ops", "list operators, or one with its options"),
    "schema": ("pipelines.cli.schema", "print the JSON Schema of pipeline files"),
    "eval": ("pipelines.cli.eval", "score a pipeline on a folder of questions"),
    "tune": ("pipelines.cli.tune", "choose a retriever's options by judged questions"),
    "calibrate": ("pipelines.cli.calibrate", "choose how cached passages are read, by measuring"),
    "train": ("pipelines.cli.train", "train a pruner on labelled passages"),
    "adapt": ("pipelines.cli.adapt", "teach a language model to read cached, pruned passages"),
    "router": (
        "pipelines.cli.router",
        "train or measure a router, or label queries by outcomes",
    ),
    "compare": ("pipelines.cli.compare", "compare two results of eval, with significance"),
    "inspect": ("pipelines.cli.inspect", "show what an index, a document or a run holds"),
    "doctor": ("pipelines.cli.doctor", "check the installation, models and caches"),
    "demo": ("pipelines.cli.demo", "index the Python reference and answer three questions"),
}
_EXAMPLE = """\
example:
  dovetail index ~/notes -o notes.idx
  dovetail ask "What did we decide about backups?" -i notes.idx

`dovetail COMMAND --help` says more about each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for a fault, 2 for a mistake, 130 for Ctrl-C.

    Args:
        argv: arguments without the program's name; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in arguments if not word.startswith("-")), None)
    try:
        module = import_module(COMMANDS[name][0]) if name in COMMANDS else None
        args = _parser(name, module).parse_args(arguments)
        assert module is not None, "argparse lets no unknown command pass"
        status: int = module.run(args)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted; what was saved before still holds, and the next run goes on from there")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; nothing is left to say, or to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if _debugging(arguments):
            raise
        if isinstance(error, DovetailError):
            _say(f"error: {error}")
            return error.exit_status
        _say(f"unexpected error: {type(error).__name__}: {error} (--debug shows where)")
        return 1
    return status


class _Parser(argparse.ArgumentParser):
    """A parser that proposes the nearest command and reports in our one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"dovetail: error: {message}\n(`{self.prog} --help` shows what it takes)\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"dovetail {version('dovetail-rag')}\n")
        parser.exit()


def _parser(name: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command knows its own arguments."""
    parser = _Parser(
        prog="dovetail",
        description="Answers questions about your documents on your own machine, with citations; "
        "each passage is read by the language model once and its KV cache kept.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    _add_debug(parser, default=False)
    if name is not None and module is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
        parser.error(f"no command {name!r}; {hint}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command, (_, about) in COMMANDS.items():
        added = commands.add_parser(
            command,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_debug(added, default=argparse.SUPPRESS)
        if command == name and module is not None:
            module.add_arguments(added)
    return parser


def _add_debug(parser: argparse.ArgumentParser, *, default: Any) -> None:
    text = "show where an error comes from (also: DOVETAIL_DEBUG=1)"
    parser.add_argument("--debug", action="store_true", default=default, help=text)


def _debugging(arguments: list[str]) -> bool:
    return "--debug" in arguments or os.environ.get("DOVETAIL_DEBUG", "") not in {"", "0"}


def _say(message: str) -> None:
    sys.stderr.write(f"dovetail: {message}\n")
