"""Arguments of the commands that load a language model and open the KV store."""

import argparse
import re

DTYPES = ("auto", "bfloat16", "float32")
MODEL_NAMES = (
    "a local folder or .gguf file, a hub id owner/name, or a service's URL and its model: "
    "http://127.0.0.1:8000/v1#MODEL (key, if it needs one: variable OPENAI_API_KEY)"
)
ADAPTER_HELP = (
    "for reading cached passages: auto, the one that comes with Dovetail for this model, if any; "
    "none; or a folder that `dovetail adapt` wrote (default: auto)"
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)


def size(text: str) -> int:
    """Return the bytes of `500MB`, `4G` or `1000`; units are powers of 1000.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 500MB or 4GB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def add_adapter_argument(group: argparse._ArgumentGroup) -> None:
    """Add `--adapter`."""
    group.add_argument("--adapter", metavar="none|auto|DIR", default="auto", help=ADAPTER_HELP)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the language model's arguments and the budgets of the KV store."""
    group = parser.add_argument_group("language model")
    group.add_argument(
        "--model",
        metavar="NAME",
        default="smollm2-135m",
        help=f"smollm2-135m, {MODEL_NAMES} "
        "(default: smollm2-135m; any larger instruct model answers better)",
    )
    add_adapter_argument(group)
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="default: auto, the fastest")
    group.add_argument(
        "--download", action="store_true", help="allow to fetch a model of a known short name"
    )
    group = parser.add_argument_group("KV store")
    group.add_argument(
        "--kv-ram", metavar="SIZE", type=size, default=size("4GB"), help="RAM (default: 4GB)"
    )
    group.add_argument(
        "--kv-disk", metavar="SIZE", type=size, default=size("10GB"), help="disk (default: 10GB)"
    )
