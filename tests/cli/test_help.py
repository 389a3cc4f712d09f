"""Every verb's help is there, though a verb's file is imported only when it is needed."""

from __future__ import annotations

import inspect

import pytest
from typer.testing import CliRunner

from pneumo_edge.cli import EXAMPLES, SUMMARIES, app, load_verb

_each_verb = pytest.mark.parametrize("verb", SUMMARIES)


def test_the_whole_help_has_every_verb_with_its_line() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for verb, summary in SUMMARIES.items():
        assert f"{verb:<11} {summary}" in result.stdout


@_each_verb
def test_the_help_of_a_verb_begins_with_an_example_and_its_line(verb: str) -> None:
    example, summary, *_ = inspect.cleandoc(load_verb(verb).help).split("\n\n")
    assert example.startswith(f"Example: pneumo-edge {verb}")
    assert " ".join(summary.split()) == SUMMARIES[verb]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_command_that_parses(name: str) -> None:
    verb, *words = EXAMPLES[name].split()
    assert EXAMPLES[name].startswith(name)
    command = load_verb(verb)
    if hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_parser(command.context_class(command)).parse_args(words)


@_each_verb
def test_a_verb_has_its_own_help(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Usage: root {verb} " in result.stdout or f"Usage: pneumo-edge {verb} " in result.stdout
    assert SUMMARIES[verb] in result.stdout
    assert "--help" in result.stdout


def test_a_verb_inside_a_verb_has_its_help() -> None:
    result = CliRunner().invoke(app, ["data", "audit", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--figure" in result.stdout


def test_an_unknown_verb_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["predcit"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "Did you mean 'predict'?" in result.stderr
