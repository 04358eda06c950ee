"""`dovetail ops`: the catalogue of operators, or one of them with its options and ports."""

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import UsageError
from pipelines.cli.pipeline_arguments import add_plugin_argument
from pipelines.cli.terminal import say, say_json

if TYPE_CHECKING:
    from pipelines.catalogue.spec import Catalogue, OperatorSpec, Option, ResourceSpec

_EXAMPLE = """\
examples:
  dovetail ops                      all, by module and sub-module
  dovetail ops retrieve.hybrid      its options, inputs and output"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLE
    parser.add_argument("name", metavar="NAME", nargs="?", help="an operator or a resource")
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the catalogue or one entry."""
    from pipelines.catalogue.plugins import with_plugins

    known = with_plugins(args.plugins)
    if args.name is None:
        if args.json:
            say_json([_row(spec) for spec in known.operators.values()])
        else:
            _draw_all(known)
        return 0
    spec = known.operators.get(args.name) or known.resources.get(args.name)
    if spec is None:
        from pipelines.flow.diagnostics import nearest

        hint = nearest(args.name, {**known.operators, **known.resources})
        raise UsageError(f"no operator {args.name!r}; {hint or '`dovetail ops` lists them'}")
    if args.json:
        say_json(_row(spec))
    else:
        _draw_one(spec)
    return 0


def _draw_all(known: "Catalogue") -> None:
    from pipelines.catalogue.entries import MODULES

    modules = dict.fromkeys([*MODULES, *(spec.module for spec in known.operators.values())])
    for module in modules:
        of_module = [spec for spec in known.operators.values() if spec.module == module]
        say(f"{module}  ({MODULES.get(module, 'plugin')})")
        for submodule in dict.fromkeys(spec.submodule for spec in of_module):
            say(f"  {submodule}")
            for spec in of_module:
                if spec.submodule == submodule:
                    say(f"    {spec.name:<24} {spec.summary}")
        say()
    say("resources")
    for resource in known.resources.values():
        say(f"    {resource.name:<24} {resource.summary}")


def _draw_one(spec: "OperatorSpec | ResourceSpec") -> None:
    from pipelines.catalogue.spec import OperatorSpec
    from pipelines.flow.types import show

    say(f"{spec.name}\n\n{spec.about}\n")
    if isinstance(spec, OperatorSpec):
        say("inputs")
        for port in spec.inputs:
            say(f"  {port.name}: {show(port.kind)}{' (optional)' if port.optional else ''}")
        say(f"output\n  {spec.output.name or '(name it with out)'}: {show(spec.output.kind)}")
    if spec.options:
        say("options")
        for option in spec.options:
            say(f"  {option.name}: {show(option.kind)}{_default(option)}")
            if option.about:
                say(f"      {option.about}")
    if spec.needs:
        say("resources")
        for need in spec.needs:
            say(f"  {need.name}{' (optional)' if need.optional else ''}: {need.about}")


def _default(option: "Option") -> str:
    from pipelines.catalogue.spec import REQUIRED

    where = f", {option.bounds}" if option.bounds is not None else ""
    if option.default is REQUIRED:
        return f"{where} (required)"
    shown = repr(option.default)
    return f"{where} = {shown if len(shown) <= 60 else shown[:57] + '…'}"


def _row(spec: "OperatorSpec | ResourceSpec") -> dict[str, Any]:
    from pipelines.catalogue.table import entry_row

    return entry_row(spec)
