"""The command line frame: help, mistakes, faults and interrupts."""

from types import SimpleNamespace

import pytest

from pipelines.cli import main as frame
from pipelines.cli.main import COMMANDS, main
from rag.errors import CorpusError


@pytest.fixture
def command(monkeypatch):
    """Return a function that makes `doctor` do something else."""

    def install(run):
        module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(frame, "import_module", lambda _: module)

    return install


def raising(error):
    def run(args):
        raise error

    return run


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and about in shown for name, (_, about) in COMMANDS.items())


def test_help_of_a_command_has_an_example(capsys):
    for name in ("index", "inspect", "doctor"):
        assert main([name, "--help"]) == 0
        assert f"dovetail {name}" in capsys.readouterr().out.partition("example")[2]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dovetail 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["idnex"], "no command 'idnex'; did you mean 'index'?"),
        (["xyzzy"], "no command 'xyzzy'; commands are index, "),
        (["index"], "required: PATH, -o/--out"),
        (["doctor", "--onlin", "x"], "unrecognized arguments"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("dovetail: error: ")
    assert message in said.splitlines()[0]


def test_our_errors_are_one_line_and_2(capsys, command):
    command(raising(CorpusError("no such file: x")))
    assert main(["doctor"]) == 2
    assert capsys.readouterr() == ("", "dovetail: error: no such file: x\n")


def test_faults_are_one_line_and_1(capsys, command):
    command(raising(RuntimeError("odd")))
    assert main(["doctor"]) == 1
    expected = "dovetail: unexpected error: RuntimeError: odd (--debug shows where)\n"
    assert capsys.readouterr().err == expected


def test_debug_lets_an_error_pass(command, monkeypatch):
    command(raising(RuntimeError("odd")))
    for arguments in (["--debug", "doctor"], ["doctor", "--debug"]):
        with pytest.raises(RuntimeError, match="odd"):
            main(arguments)
    monkeypatch.setenv("DOVETAIL_DEBUG", "1")
    with pytest.raises(RuntimeError, match="odd"):
        main(["doctor"])


def test_an_interrupt_says_that_the_old_state_holds(capsys, command):
    command(raising(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
    assert "what was saved before still holds" in capsys.readouterr().err


def test_the_status_of_a_command_passes(command):
    command(lambda args: 1)
    assert main(["doctor"]) == 1
