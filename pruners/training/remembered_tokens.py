"""A tokenizer that reads each text once: augmentation shows the same sentences again and again."""

from __future__ import annotations

from typing import Any


class RememberedTokens:
    """Wraps a fast tokenizer for `pair_blocks`; lists of texts are looked up text by text.

    Memory grows by the ids of every different text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}
        self._single: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the tokenizer says of itself."""
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, pair: Any = None, **settings: Any) -> Any:
        """Return what the tokenizer returns: `input_ids` alone for a list of texts."""
        if not isinstance(text, list):
            key = (text, pair, tuple(sorted(settings.items())))
            if key not in self._single:
                self._single[key] = self._tokenizer(text, pair, **settings)
            return self._single[key]
        new = [one for one in dict.fromkeys(text) if one not in self._ids]
        if new:
            read = self._tokenizer(new, **settings)["input_ids"]
            self._ids.update(zip(new, read, strict=True))
        return {"input_ids": [self._ids[one] for one in text]}
