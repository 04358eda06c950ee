"""What stands for a sentence when it is scored alone."""

from rag.records import Passage


def sentence_texts(passage: Passage) -> list[str]:
    """Return what stands for each sentence when it is scored: `title: sentence`, stripped.

    A sentence seldom repeats what its passage is about; the title says it.
    """
    lead = f"{passage.title}: " if passage.title else ""
    return [lead + span.of(passage.text).strip() for span in passage.sentences]
