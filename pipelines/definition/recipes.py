"""What `dovetail new` tells of shipped recipes."""

import re
from pathlib import Path

from pipelines.definition.compose import RECIPES, recipes
from pipelines.flow.diagnostics import nearest
from rag.errors import DovetailError


class RecipeError(DovetailError):
    """A recipe that does not exist."""


def recipe_path(name: str) -> Path:
    """Return the file of a recipe.

    Raises:
        RecipeError: if there is none of that name.
    """
    if name not in recipes():
        hint = nearest(name, recipes()) or f"recipes are {', '.join(recipes())}"
        raise RecipeError(f"no recipe {name!r}; {hint}")
    return RECIPES / f"{name}.yaml"


def about(name: str) -> str:
    """Return a recipe's description."""
    text = recipe_path(name).read_text(encoding="utf-8")
    found = re.search(r'^description:\s*"(.+)"$', text, re.MULTILINE)
    return found[1] if found else ""
