"""Documentation: links lead somewhere, commands parse, targets exist, no path is this machine's."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.cli.main import COMMANDS, _parser

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "DECISIONS.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if page.exists()
]
README = ROOT / "README.md"

FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)")
MAKE = re.compile(r"(?:^|[\s;&|(])make((?:\s+[a-z][\w-]*)+)")
TARGET = re.compile(r"^([a-z][\w-]*):", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.~/:])/(?:home|root|work|Users|mnt|private)/\w")


def code_of(page):
    """Every piece of code on a page: fenced blocks, and spans outside them."""
    return [*FENCE.findall(page), *CODE_SPAN.findall(FENCE.sub("", page))]


def broken_links(page, folder):
    targets = (link.partition("#")[0] for link in LINK.findall(FENCE.sub("", page)))
    local = [t for t in targets if t and not re.match(r"[a-z][a-z+.-]*:", t)]
    return [target for target in local if not (folder / target).exists()]


def anchors_without_heading(page):
    """Links into the same page that no heading answers."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    wanted = [link[1:] for link in LINK.findall(FENCE.sub("", page)) if link.startswith("#")]
    return [anchor for anchor in wanted if anchor not in slugs]


def make_targets(page):
    return {
        word for code in code_of(page) for words in MAKE.findall(code) for word in words.split()
    }


def dovetail_commands(page):
    """Arguments of every `dovetail …` line in fenced code; comments and shell joints are cut."""
    found = []
    for block in FENCE.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            try:
                words = list(lexer)
            except ValueError:  # output or prose with a lone quote
                continue
            while words:
                ends = [i for i, word in enumerate(words) if set(word) <= set("|&;<>")]
                end = ends[0] if ends else len(words)
                if words[0] == "dovetail":
                    found.append(words[1:end])
                words = words[end + 1 :]
    return found


def parse(arguments):
    """Parse a command line with the parsers that `dovetail` has; nothing is run."""
    name = next((word for word in arguments if not word.startswith("-")), None)
    module = import_module(COMMANDS[name][0]) if name in COMMANDS else None
    return _parser(name, module).parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken_links(page.read_text(), page.parent) == []
    assert anchors_without_heading(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    assert make_targets(page.read_text()) <= set(TARGET.findall((ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, capsys):
    for arguments in dovetail_commands(page.read_text()):
        try:
            parse(arguments)
        except SystemExit:
            pytest.fail(f"dovetail {shlex.join(arguments)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_path_is_this_machines(page):
    assert MACHINE_PATH.findall(page.read_text()) == []


def test_every_command_is_in_the_readme_once_it_has_any():
    shown = {arguments[0] for arguments in dovetail_commands(README.read_text()) if arguments}
    assert not shown or shown | {"demo"} >= set(COMMANDS)


def blocks_of(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pipeline_files_are_valid(page):
    from pipelines.catalogue.table import catalogue
    from pipelines.definition.load import load_text
    from pipelines.flow.check import check

    for text in blocks_of(page.read_text(), "yaml"):
        definition, mistakes = load_text(text)
        assert mistakes == []
        assert check(definition, catalogue()).errors == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_that_needs_no_model_runs(page):
    for text in blocks_of(page.read_text(), "python"):
        code = compile(text, page.name, "exec")
        if ".run(" not in text and page.name != "langchain.md":
            exec(code, {"__name__": "example"})


BAD = """\
# Some page
See [a](missing.md), [b](#nowhere), [c](#some-page), [d](README.md#x), [e](https://x.org/y.md).
Run `make nonsense`, and make it so.

```sh
$ make demo                    # comment
cd x && dovetail ask "a b" -i n.idx --no-such | head   # not dovetail index
dovetail index notes \\
    -o notes.idx; dovetail doctor
```

It lies in /home/me/x, not in ~/notes, https://x.org/home/me or a/work/b.
"""


def test_the_checks_see_what_is_wrong(capsys):
    assert broken_links(BAD, ROOT) == ["missing.md"]
    assert anchors_without_heading(BAD) == ["nowhere"]
    assert make_targets(BAD) == {"nonsense", "demo"}
    commands = dovetail_commands(BAD)
    assert commands == [
        ["ask", "a b", "-i", "n.idx", "--no-such"],
        ["index", "notes", "-o", "notes.idx"],
        ["doctor"],
    ]
    with pytest.raises(SystemExit):
        parse(commands[0])
    assert parse(commands[1]).paths == ["notes"]
    assert len(MACHINE_PATH.findall(BAD)) == 1
    capsys.readouterr()
