"""What a model that was taught to refuse says where the passages do not answer the question."""

REFUSAL = "unanswerable"


def is_refusal(text: str) -> bool:
    """Return whether a text is a refusal: white space around it, one full stop and case apart."""
    return text.strip().removesuffix(".").rstrip().casefold() == REFUSAL
