"""Teachers: the base model's distribution of an answer's tokens, and answers of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.adaptation.losses import Taught, taught
from rag.files import write_atomically
from rag.training.run_state import TrainingStateError

if TYPE_CHECKING:
    from torch import Tensor

    from rag.adaptation.examples import ReadingExample
    from rag.adaptation.lessons import Key
    from rag.adaptation.plan_pass import PlanPass, Reading
    from rag.generation.templates import PromptTemplate
    from rag.models.language_model import LoadedModel
    from rag.training.precision import Precision
    from rag.training.watching import Watcher

REMEMBERED = "teacher.safetensors"
OWN_ANSWERS = "own_answers.json"
_ANSWER_TOKENS = 32
_BATCH = 8


class BaseTeacher:
    """What the model says without its updates, asked once an example and remembered."""

    def __init__(self, model: Any, reads: PlanPass, most: int) -> None:
        """Remember nothing yet.

        Args:
            model: that `reads` runs, with updates inside.
            reads: the forward pass.
            most: tokens to remember of each distribution.
        """
        self._model, self._reads, self._most = model, reads, most
        self._known: dict[Key, Taught] = {}

    def of(
        self, keys: Sequence[Key], readings: Sequence[Reading], precision: Precision
    ) -> list[Taught]:
        """Return the distributions of some answers, on the model's device.

        Args:
            keys: what to remember them by.
            readings: sequential ones, a key each.
            precision: of a forward pass, if one is needed.
        """
        import torch

        from rag.training.lora import without_lora
        from rag.training.precision import autocast

        missing = [row for row, key in enumerate(keys) if key not in self._known]
        device = self._model.device
        if missing:
            with torch.no_grad(), without_lora(self._model), autocast(precision, device):
                said = self._reads.logits([readings[row] for row in missing])
            for row, logits in zip(missing, said, strict=True):
                self._known[keys[row]] = taught(logits, self._most).to(torch.device("cpu"))
        return [self._known[key].to(device) for key in keys]

    def save(self, folder: Path) -> None:
        """Write what is known into a folder."""
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        for row, one in enumerate(self._known.values()):
            assert one.tokens is not None, "a teacher remembers its most probable tokens"
            tensors |= {f"{row}.tokens": one.tokens.int(), f"{row}.logprobs": one.logprobs}
        names = json.dumps([list(key) for key in self._known])
        content = save(
            {name: one.contiguous() for name, one in tensors.items()}, metadata={"keys": names}
        )
        write_atomically(folder / REMEMBERED, lambda file: file.write(content))

    def restore(self, folder: Path) -> None:
        """Read what an earlier run of the same training knew.

        Raises:
            TrainingStateError: if the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / REMEMBERED
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as file:
                for row, (data, id_, whole) in enumerate(json.loads(file.metadata()["keys"])):
                    tokens = file.get_tensor(f"{row}.tokens").long()
                    self._known[data, id_, whole] = Taught(
                        tokens, file.get_tensor(f"{row}.logprobs")
                    )
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise TrainingStateError(
                f"{path} is damaged, so nothing can be resumed: {error}"
            ) from error


def with_own_answers(
    examples: Sequence[ReadingExample],
    loaded: LoadedModel,
    template: PromptTemplate,
    folder: Path,
    watcher: Watcher,
) -> list[ReadingExample]:
    """Return the examples, those without an answer with the model's own, and in the given order.

    The model continues the sequential prompt greedily, for at most 32 tokens. What it said is
    remembered in the folder. An example for which it says nothing stays without an answer.

    Args:
        examples: any.
        loaded: the model, without updates.
        template: of its prompt.
        folder: exists.
        watcher: told of the stage `own answers`.
    """
    wanting = [one for one in examples if one.target is None]
    if not wanting:
        return list(examples)
    known = _remembered(folder / OWN_ANSWERS)
    asked = [one for one in wanting if _name(one) not in known]
    watcher.stage("own answers", len(asked))
    if asked:
        from rag.generation.cached import GenerateCached
        from rag.generation.decoding import Sampling
        from rag.generation.local_model import LocalModel

        model = LocalModel(loaded, template=template)
        generate = GenerateCached(
            model.engine(fallback=True),
            model.prompt,
            mode="sequential",
            sampling=Sampling(_ANSWER_TOKENS),
        )
        for start in range(0, len(asked), _BATCH):
            some = asked[start : start + _BATCH]
            said = generate.batch(
                query=[one.query for one in some], passages=[one.passages for one in some]
            )
            known |= {
                _name(one): answer.text.strip() for one, answer in zip(some, said, strict=True)
            }
            watcher.advance(len(some))
        content = json.dumps(known, indent=1).encode()
        write_atomically(folder / OWN_ANSWERS, lambda file: file.write(content))
    return [
        replace(one, answers=(known[_name(one)],)) if known.get(_name(one)) and one.target is None
        else one
        for one in examples
    ]  # fmt: skip


def _remembered(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise TrainingStateError(
            f"{path} is damaged, so nothing can be resumed: {error}"
        ) from error
    return {str(name): str(text) for name, text in found.items()}


def _name(one: ReadingExample) -> str:
    return f"{one.data}/{one.id}"


def clear_teacher(folder: Path) -> None:
    """Remove what only a running training remembers."""
    for name in (REMEMBERED, OWN_ANSWERS):
        (folder / name).unlink(missing_ok=True)
