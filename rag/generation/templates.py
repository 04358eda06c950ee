"""Prompt templates as data: the text around passages and question, by name or of your own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from rag.generation.worked_examples import EXAMPLES, PREFIX, THOUGHT_PREFIX, Example
from rag.records import Passage, Query

INDENTED = re.compile(r"(^|\n)[ \t]+\S")
BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")
CHAT_FROM_PARAMETERS = 1_000_000_000
HEADER = "Title: {title}\nText:"
QUESTION = "Question: {question}"
INSTRUCTION = (
    "You answer questions from passages. Answer in as few words as possible, and take the words "
    "from the passages."
)

PromptName = Literal["examples", "instruct", "chat", "chat-examples", "thought"]
PromptChoice = Literal["auto", PromptName]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The text around passages and question: `[prefix][passage]*[question]`.

    By default a raw completion with worked examples whose answers are short, since that is what
    small models do best: with answers in whole sentences the default model's F1 on SQuAD is half as
    high. With `chat` the tokenizer's own chat template is put around these texts: instruction and
    examples, which every passage sees, stand before the passages, only the question after them.

    No passage has a number in it: its KV is the same wherever it stands in a prompt.

    Attributes:
        prefix: instructions and examples, shared by every request and visible to every passage; of
            a chat the system turn, which is put before the first user turn where a model has none.
        header: opens a passage; `{title}` is replaced. It ends without white space, since every
            sentence brings its own.
        closing: ends a passage.
        question: the question; `{question}` is replaced. Nothing else follows in its turn.
        stop: the answer ends where this text appears; of a chat also at the end of the turn.
        chat: whether the tokenizer's chat template is put around the texts.
        opening: opens a user turn of a chat, before the passages.
        examples: turns of a chat before the user's: what is asked, and its answer.
        name: what the template is called; says nothing about the text.

    Raises:
        ValueError: if a placeholder is missing, twice there or unknown, the stop text is empty, or
            a text that only a chat has is given without `chat`.
    """

    prefix: str = PREFIX
    header: str = HEADER
    closing: str = "\n\n"
    question: str = QUESTION + "\nAnswer:"
    stop: str = "\n"
    chat: bool = False
    opening: str = ""
    examples: tuple[Example, ...] = ()
    name: str = "examples"

    def __post_init__(self) -> None:
        _check_placeholder("header", self.header, "title")
        _check_placeholder("question", self.question, "question")
        if not self.stop:
            raise ValueError("stop must be a text that is not empty, got ''")
        if not self.chat and (self.opening or self.examples):
            raise ValueError("opening and examples are parts of a chat; put them into prefix")

    def header_of(self, passage: Passage) -> str:
        """Return what opens a passage."""
        return self.header.format(title=passage.title)

    def question_of(self, query: Query) -> str:
        """Return the question on one line, ready to be answered."""
        return self.question.format(question=" ".join(query.text.split()))

    def render(self, query: Query, passages: Sequence[Passage], begun: str = "") -> str:
        """Return the prompt as one text, for models that take nothing else.

        It is what the sequential mode reads: only kept sentences, the best passage last.

        Args:
            query: the question.
            passages: best first; one of which no sentence is kept is left out.
            begun: the answer so far; the model goes on after it.

        Raises:
            ValueError: for a chat, whose text is the tokenizer's to make.
        """
        if self.chat:
            raise ValueError(f"prompt {self.name!r} is a chat and no text; use messages")
        begun = f" {begun.strip()}" if begun.strip() else ""
        return "".join([self.prefix, self._read(passages), self.question_of(query), begun])

    def messages(self, query: Query, passages: Sequence[Passage]) -> list[dict[str, str]]:
        """Return the prompt as turns `{role, content}`, for models behind a chat interface.

        They say what the sequential mode reads: only kept sentences, the best passage last.

        Args:
            query: the question.
            passages: best first; one of which no sentence is kept is left out.

        Raises:
            ValueError: for a raw completion, which has no turns.
        """
        if not self.chat:
            raise ValueError(f"prompt {self.name!r} is a text and no chat; use render")
        return self.turns(self._read(passages) + self.question_of(query))

    def turns(self, asked: str, *, system: bool = True) -> list[dict[str, str]]:
        """Return the turns of a chat up to the user's.

        Args:
            asked: passages and question.
            system: whether there is a system turn; else its text is put before the first user turn.
        """
        spoken: list[dict[str, str]] = []
        for example in self.examples:
            passage = f"{self.header.format(title=example.title)} {example.text}{self.closing}"
            question = self.question.format(question=example.question)
            spoken.append({"role": "user", "content": f"{self.opening}{passage}{question}"})
            spoken.append({"role": "assistant", "content": example.answer})
        spoken.append({"role": "user", "content": self.opening + asked})
        if not self.prefix:
            return spoken
        if system:
            return [{"role": "system", "content": self.prefix}, *spoken]
        spoken[0]["content"] = f"{self.prefix}\n\n{spoken[0]['content']}"
        return spoken

    def _read(self, passages: Sequence[Passage]) -> str:
        return "".join(self._text_of(one) for one in reversed(passages) if one.kept_rows)

    def _text_of(self, passage: Passage) -> str:
        spans = (passage.sentences[row] for row in passage.kept_rows)
        pieces = [sentence_piece(span.of(passage.text)) for span in spans]
        return "".join([self.header_of(passage), *pieces, self.closing])


def sentence_piece(sentence: str) -> str:
    """Return a sentence with the white space that joins it to whatever precedes it.

    Prose is put on one line after a space, indented text such as code keeps its lines and starts a
    new one. So any subset of a passage's sentences reads, and tokenises, as it would alone.
    """
    body = sentence.rstrip()
    if INDENTED.search(body):
        return "\n" + body.strip("\n")
    return " " + " ".join(body.split())


def _check_placeholder(where: str, text: str, name: str) -> None:
    """Check that `{name}` is in a text exactly once, and no other brace that is not doubled.

    Raises:
        ValueError: with the place of the first brace that is wrong, counted from 1.
    """
    found = 0
    for brace in BRACES.finditer(text):
        if brace[0] == f"{{{name}}}":
            found += 1
        elif brace[0] not in {"{{", "}}"}:
            raise ValueError(
                f"{where} knows only {{{name}}}, got {brace[0]} at character "
                f"{brace.start() + 1} of {text!r}; write {{{{ and }}}} for braces"
            )
    if found != 1:
        raise ValueError(f"{where} must hold {{{name}}} once, got it {found} times in {text!r}")


_CHAT: dict[str, Any] = {
    "prefix": INSTRUCTION,
    "question": QUESTION,
    # A small model that goes on to ask itself has answered; a turn of a larger one has paragraphs.
    "stop": "\nQuestion:",
    "chat": True,
    "opening": "Passages:\n\n",
}
THOUGHT = PromptTemplate(prefix=THOUGHT_PREFIX, name="thought")
TEMPLATES: Mapping[str, PromptTemplate] = {
    "examples": PromptTemplate(),
    "instruct": PromptTemplate(prefix=f"{INSTRUCTION}\n\n", name="instruct"),
    "chat": PromptTemplate(**_CHAT, name="chat"),
    "chat-examples": PromptTemplate(**_CHAT, examples=EXAMPLES, name="chat-examples"),
    "thought": THOUGHT,
}
NAMES: tuple[PromptName, ...] = get_args(PromptName)
OWN = tuple(one.name for one in fields(PromptTemplate) if one.name not in {"examples", "name"})


def chosen_template(
    prompt: PromptChoice | Mapping[str, str | bool], *, has_chat: bool, parameters: int
) -> PromptTemplate:
    """Return the template that a person means.

    `auto` is `chat` for a model of more than a billion parameters whose tokenizer has a chat
    template, else `examples`: what models below that follow is the example, not the instruction.

    Args:
        prompt: a name, or the texts of a template of one's own; those that are not given are those
            of `examples`, or with `chat: true` of `chat`.
        has_chat: whether the tokenizer has a chat template.
        parameters: of the model.

    Raises:
        ValueError: for an unknown name, an unknown text, a text of another type, or as of
            `PromptTemplate`.
    """
    if isinstance(prompt, Mapping):
        return own_template(prompt)
    if prompt == "auto":
        prompt = "chat" if has_chat and parameters > CHAT_FROM_PARAMETERS else "examples"
    if prompt not in TEMPLATES:
        raise ValueError(f"prompt must be auto, {', '.join(NAMES)} or a mapping, got {prompt!r}")
    return TEMPLATES[prompt]


def own_template(texts: Mapping[str, str | bool]) -> PromptTemplate:
    """Return the template of these texts; those that are not given are those of a named one."""
    for name, value in texts.items():
        if name not in OWN:
            raise ValueError(f"prompt takes {', '.join(OWN)}, got {name!r}")
        wanted = bool if name == "chat" else str
        if not isinstance(value, wanted):
            raise ValueError(  # noqa: TRY004
                f"prompt.{name} must be {'true or false' if wanted is bool else 'a text'}, "
                f"got {value!r}"
            )
    known: dict[str, Any] = _CHAT if texts.get("chat") else {}
    if not texts.get("chat") and texts.get("prefix") == "":
        raise ValueError("prompt.prefix must not be empty: passages are cached after it")
    return PromptTemplate(**(known | dict(texts)), name="own")
