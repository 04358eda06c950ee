"""Probabilities of the tokens that say something: what confidence is judged by."""

import math

from rag.records import Completion


def telling_tokens(completion: Completion) -> list[tuple[str, float]]:
    """Return each token that holds a letter or digit, with its probability, in [0, 1].

    White space and punctuation say how a sentence is set, not what it claims.

    Raises:
        ValueError: if there is a text, but the model told no probabilities.
    """
    if completion.text and not completion.tokens:
        raise ValueError(
            "completion must hold log-probabilities, got none: its model does not tell them"
        )
    return [
        (token, math.exp(logprob))
        for token, logprob in zip(completion.tokens, completion.logprobs, strict=True)
        if any(map(str.isalnum, token))
    ]
