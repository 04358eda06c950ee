"""Prompts on the command line: chosen, shown, and filled in advance with the same one."""

import json
from typing import get_args

import pytest

from pipelines.cli.main import main
from rag.generation.templates import PromptChoice

QUESTION = "What is sentence 3 about?"
CHATML = (
    "{% for m in messages %}{{ '<s>' + m.role + '\\n' + m.content + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
OWN = """\
version: 1
name: own
steps:
  - use: retrieve.hybrid
  - use: generate.cached
    with:
      prompt: {%s}
outputs: [answer]
"""


@pytest.fixture
def chatty(checkpoint, tmp_path):
    """A model whose tokenizer has a chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "chatty"
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def called(index, capsys):
    """Return a function: command and arguments -> (exit status, standard output, error)."""

    def run(*arguments, model):
        status = main([*arguments, "--model", str(model), "--dtype", "float32"])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def ask(called, index):
    def run(*more, model):
        return called("ask", QUESTION, "-i", str(index), "--max-tokens", "2", *more, model=model)

    return run


def test_the_prompt_is_shown_with_the_name_of_its_template(ask, chatty):
    status, out, err = ask("--prompt", "chat", "--show", "prompt", model=chatty)
    assert status == 0, err
    _, _, shown = out.partition("--- template: chat ---\n--- prompt ---\n")
    assert shown.startswith("<s>system\nYou answer questions from passages.")
    assert shown.endswith(f"Question: {QUESTION}</s>\n<s>assistant\n\n")
    found = json.loads(ask("--prompt", "chat", "--show", "prompt", "--json", model=chatty)[1])
    assert (found["templates"], found["prompt"] + "\n") == (["chat"], shown)


def test_a_small_model_reads_worked_examples_by_default(ask, chatty):
    _, out, _ = ask("--show", "prompt", model=chatty)
    assert "--- template: examples ---\n--- prompt ---\nTitle: Great Barrier Reef\n" in out


def test_another_prompt_shares_no_cached_passage(ask, chatty):
    use = [
        json.loads(ask("--prompt", name, "--json", model=chatty)[1])["kv"]
        for name in ("examples", "chat", "chat", "instruct")
    ]
    assert [one["hits"] > 0 for one in use] == [False, False, True, False]
    assert [one["misses"] > 0 for one in use] == [True, True, False, True]


@pytest.mark.parametrize("name", ["examples", "instruct", "chat", "chat-examples", "thought"])
def test_precompute_fills_what_the_same_prompt_reads(called, ask, index, chatty, name):
    assert called("precompute", str(index), "--prompt", name, model=chatty)[0] == 0
    kv = json.loads(ask("--prompt", name, "--json", model=chatty)[1])["kv"]
    assert kv["misses"] == 0 < kv["hits"]


def test_precompute_takes_the_prompt_of_a_pipeline(called, ask, index, chatty, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN % "prefix: \"Kurz.\\n\\n\", header: '# {title}:', chat: false")
    assert called("precompute", str(index), "-p", str(file), model=chatty)[0] == 0
    status, out, err = ask("-p", str(file), "--json", "--show", "prompt", model=chatty)
    assert status == 0, err
    found = json.loads(out)
    assert found["prompt"].startswith("Kurz.\n\n# ")
    assert (found["templates"], found["kv"]["misses"]) == (["own"], 0)
    status, _, err = called(
        "precompute", str(index), "-p", "bm25", "--prompt", "chat", model=chatty
    )
    assert (status, "not allowed with" in err) == (2, True)


def test_precompute_refuses_a_pipeline_without_one_prompt(called, index, chatty, tmp_path):
    file = tmp_path / "two.yaml"
    step = "  - {use: generate.cached, id: %s, with: {prompt: %s}, out: %s}\n"
    steps = step % ("a", "chat", "first") + step % ("b", "examples", "answer")
    file.write_text(
        f"version: 1\nname: two\nsteps:\n  - use: retrieve.hybrid\n{steps}outputs: [first, answer]\n"
    )
    status, _, err = called("precompute", str(index), "-p", str(file), model=chatty)
    assert status == 2
    assert "must have one prompt of generate.cached, got 2; use --prompt" in err


def test_a_model_without_a_chat_template_says_which_prompts_work(ask, checkpoint):
    status, _, err = ask("--prompt", "chat", model=checkpoint)
    assert status == 2
    assert "prompts that work with it: examples, instruct, thought" in err


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("header: '# {name}'", "header knows only {title}, got {name} at character 3"),
        ("heading: x", "got 'heading'"),
        ("chat: perhaps", "prompt.chat must be true or false, got 'perhaps'"),
    ],
)
def test_a_mistake_in_a_prompt_of_ones_own_is_2(ask, checkpoint, tmp_path, texts, message):
    file = tmp_path / "own.yaml"
    file.write_text(OWN % texts)
    status, _, err = ask("-p", str(file), model=checkpoint)
    assert (status, message in err) == (2, True)


def test_an_unknown_prompt_is_2(ask, checkpoint):
    status, _, err = ask("--prompt", "Chat", model=checkpoint)
    assert status == 2
    assert all(name in err for name in get_args(PromptChoice))
