"""The argument that names a prompt template, and which step has one."""

import argparse
from typing import get_args

from rag.generation.templates import PromptChoice

GENERATOR = "generate.cached"


def add_prompt_argument(to: "argparse._ActionsContainer") -> None:
    """Add `--prompt`."""
    to.add_argument(
        "--prompt",
        choices=get_args(PromptChoice),
        help="text around passages and question (default: auto)",
    )
