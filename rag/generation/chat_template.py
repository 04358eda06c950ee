"""A tokenizer's chat template, cut where passages and question stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rag.errors import UnsupportedModelError
from rag.generation.templates import TEMPLATES, PromptTemplate

ASKED, ANSWER = "qzxaskedxzq", "qzxanswerxzq"
DATE = "26 Jul 2024"
# A prefix with the date of today in it would be another one tomorrow, and no passage cached.
NO_CLOCK = f"{{%- macro strftime_now(format) -%}}{DATE}{{%- endmacro +%}}"


@dataclass(frozen=True, slots=True)
class ChatPieces:
    """What a chat template puts around passages and question.

    Attributes:
        before: tokens before the passages: system turn, examples, the beginning of the user turn.
        after: tokens after the question: the end of the user turn, the beginning of the answer.
        stop_ids: the token that ends a turn of the assistant, if it is one token.
        markers: texts of control tokens that a tokenizer would also find in plain text.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    stop_ids: frozenset[int]
    markers: tuple[str, ...]


def has_chat_template(tokenizer: Any) -> bool:
    """Return whether a tokenizer brings a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_pieces(tokenizer: Any, template: PromptTemplate) -> ChatPieces:
    """Return what the tokenizer's chat template puts around passages and question.

    It is rendered with a placeholder and cut there, so `before`, passages, question and `after`
    join to what the chat template makes of the whole. The tokenizer's sandbox renders it; a model
    that can think before it answers is asked not to, and a date is always the same.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: a chat.

    Raises:
        UnsupportedModelError: if there is no chat template, or it leaves out, repeats or changes
            what a turn says.
        ValueError: if a text of the template holds a control token.
    """
    if not has_chat_template(tokenizer):
        raw = ", ".join(name for name, known in TEMPLATES.items() if not known.chat)
        raise UnsupportedModelError(
            f"prompt {template.name!r} needs a tokenizer with a chat template, and this one has "
            f"none; prompts that work with it: {raw}"
        )
    _no_control_tokens(tokenizer, template)
    turns, before, after = _cut(tokenizer, template)
    added = tokenizer.added_tokens_decoder
    opens, closes = _parsed(tokenizer, before), _parsed(tokenizer, after)
    ends = _end_of_turn(tokenizer, turns)
    used = {*opens, *closes, *ends} & set(added)
    markers = {added[token].content for token in used if not added[token].special}
    return ChatPieces(
        tuple(opens),
        tuple(closes),
        ends,
        tuple(sorted(marker for marker in markers if marker.strip())),
    )


def _cut(tokenizer: Any, template: PromptTemplate) -> tuple[list[dict[str, str]], str, str]:
    """Return the turns that the chat template takes, and its text before and after the user's.

    A chat template without a system role refuses it, or leaves its text out.
    """
    from jinja2 import TemplateError

    why = "it leaves out or changes what a turn says"
    for system in (True, False):
        turns = template.turns(ASKED, system=system)
        try:
            text = _render(tokenizer, turns, add_generation_prompt=True)
        except TemplateError as error:
            why = f"it says {str(error)!r}"
            continue
        before, asked, after = text.partition(ASKED)
        once = asked and ASKED not in after
        if once and template.prefix.strip() in before and before.endswith(template.opening):
            return turns, before, after
    raise UnsupportedModelError(
        f"the tokenizer's chat template cannot be used for prompt {template.name!r}: {why}"
    )


def _end_of_turn(tokenizer: Any, turns: Sequence[dict[str, str]]) -> frozenset[int]:
    """Return the first control token after an answer, if any follows."""
    answered = [*turns, {"role": "assistant", "content": ANSWER}]
    _, _, after = _render(tokenizer, answered, add_generation_prompt=False).partition(ANSWER)
    control = _control_ids(tokenizer)
    ends = [token for token in _parsed(tokenizer, after) if token in control]
    return frozenset(ends[:1])


def _render(tokenizer: Any, turns: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
    source: str = tokenizer.get_chat_template()
    text: str = tokenizer.apply_chat_template(
        list(turns),
        chat_template=NO_CLOCK + source if "strftime_now" in source else source,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        enable_thinking=False,
    )
    return text


def _no_control_tokens(tokenizer: Any, template: PromptTemplate) -> None:
    control = _control_ids(tokenizer)
    turns = template.turns(template.header + template.closing + template.question)
    said = "\n".join(turn["content"] for turn in turns)
    found = [token for token in _parsed(tokenizer, said) if token in control]
    if found:
        raise ValueError(
            f"prompt {template.name!r} must hold no control token, which are the tokenizer's to "
            f"add, got {tokenizer.decode(found[:1])!r}"
        )


def _control_ids(tokenizer: Any) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder
    named = {token for token, added_token in added.items() if added_token.content.strip()}
    return frozenset(named | set(tokenizer.all_special_ids))


def _parsed(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text whose control tokens are meant."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=False)[
        "input_ids"
    ]
    return ids
