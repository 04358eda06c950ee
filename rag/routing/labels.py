"""Labels of the usual corpora: how each is called, its modality, and what it answers in words."""

from collections.abc import Mapping

MODALITIES: Mapping[str, str] = {
    "none": "none",
    "paragraph": "text",
    "document": "text",
    "table": "table",
    "image": "image",
    "clip": "video",
    "video": "video",
}
"""Modality of each label; labels of one modality differ in granularity.

Source: Yeo et al. 2025 (UniversalRAG), arXiv:2504.20734.
"""

DESCRIPTIONS: Mapping[str, tuple[str, ...]] = {
    "none": (
        "A multiple choice exam question with given choices A, B, C and D.",
        "A question of logic, law, mathematics or common sense that needs no look-up.",
        "Small talk, a sum, or a request to write something.",
    ),
    "paragraph": (
        "A question about a single fact that one paragraph of an encyclopedia states.",
        "Who, when, where or what is it: a name, a date, a place or a short definition.",
    ),
    "document": (
        "A question that needs several facts from whole articles put together.",
        "A comparison of two people, works or places, or what a person known by a relation did.",
    ),
    "table": (
        "A question about rows and columns of a table: rankings, results, seasons and statistics.",
        "Which entry of a list has a given rank, score, year, team or venue.",
    ),
    "image": (
        "A question about how something looks in a picture: its colour, shape or pattern.",
        "What is seen on a photo of a building, an animal, a statue or a plant.",
    ),
    "clip": (
        "A question about a moment of a video: what happens in a scene.",
        "What a person in a video wears, holds or does just before or after something.",
    ),
    "video": (
        "A request for a whole video that shows how to do something step by step.",
        "A question about a how-to video, a tutorial or a lecture as a whole.",
    ),
}
"""What each label is for, in sentences that a query is compared with."""


def modality_of(label: str, modalities: Mapping[str, str]) -> str:
    """Return a label's modality; a label that is not named there is one of its own."""
    return modalities.get(label, label)
