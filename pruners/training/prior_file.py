"""Log-odds of a prior on disk: they cost the most before a training, and never change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pruners.training.labelled import LabelledPassage
from pruners.training.question_sets import QuestionSet
from pruners.training.scored_sets import priors_of
from rag.files import write_atomically
from rag.protocols import SentenceScorer
from rag.training.watching import Watcher

PRIORS = "priors.safetensors"


def remembered_priors(
    folder: Path,
    made_of: Mapping[str, Any],
    sets: Sequence[QuestionSet],
    examples: Sequence[LabelledPassage],
    prior: SentenceScorer,
    watcher: Watcher,
) -> np.ndarray:
    """Return `priors_of` the sets, read from a folder if they are there, else made and written.

    Args:
        folder: of the training.
        made_of: everything that the values depend on.
        sets: of the examples.
        examples: labelled passages.
        prior: scores the passages of a set together.
        watcher: told of every set that is scored.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save

    path = folder / PRIORS
    wanted = json.dumps(dict(made_of), sort_keys=True)
    if path.is_file():
        try:
            with safe_open(path, framework="np") as file:
                if (file.metadata() or {}).get("made_of") == wanted:
                    known: np.ndarray = file.get_tensor("priors")
                    return known
        except (OSError, SafetensorError):
            pass  # damaged, so made anew
    found = priors_of(sets, examples, prior, watcher)
    content = save({"priors": found}, metadata={"made_of": wanted})
    write_atomically(path, lambda file: file.write(content))
    return found
