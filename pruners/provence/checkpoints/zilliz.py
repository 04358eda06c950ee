"""Semantic highlighting by Zilliz: `zilliz/semantic-highlight-bilingual-v1`."""

from __future__ import annotations

import json
from dataclasses import replace

from pruners.provence.checkpoints import open_provence
from pruners.provence.checkpoints.contents import Contents
from pruners.provence.checkpoints.families import XLM_ROBERTA
from pruners.provence.checkpoints.plan import Layout, Plan

_THRESHOLD = 0.5
_NAMES = ("model_type", "architectures", "auto_map", "_name_or_path")


def plan(contents: Contents) -> Plan | None:
    """Return how to read an OpenProvence checkpoint over XLM-RoBERTa that names itself a highlight.

    Its model card, and programs that call it, show OpenProvence's interface, and a converted copy
    shows a token head of two labels in `pruning_head.classifier`; threshold, languages and licence
    are those of the card. The code beside the published weights could not be read: that everything
    else is as in OpenProvence is inferred.
    """
    found = open_provence.plan(contents)
    if found is None or found.family is not XLM_ROBERTA or not _says_highlight(contents):
        return None
    config = contents.config
    stated = config.get("default_threadshold", config.get("default_threshold"))
    published = replace(
        found.published,
        languages=("en", "zh"),
        threshold=_THRESHOLD if stated is None else found.published.threshold,
    )
    return replace(found, published=published)


def _says_highlight(contents: Contents) -> bool:
    """Return whether the configuration, the folder's name or its place in a hub cache says so."""
    stated = json.dumps([contents.config.get(name) for name in _NAMES])
    folder = contents.folder
    cache = [part for part in folder.parts[-3:] if part.startswith("models--")]
    return "highlight" in " ".join([stated, folder.name, *cache]).lower()


LAYOUT = Layout(
    "Zilliz semantic highlight", "pruning_head.classifier.* and a name with 'highlight'", plan
)
