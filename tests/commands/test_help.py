"""The command line as a whole: help texts with an example each, exit codes, the launcher of a checkout."""

import errno
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from ticketguard import commands
from ticketguard.commands import COMMANDS
from ticketguard.errors import UsageError

ROOT = Path(__file__).parents[2]
# Names of issue 2, which are fixed.
FIXED = {"find", "keygen", "sign", "train", "claim", "verify", "triggers", "attack", "suite", "inspect", "demo"}


def leaf_commands():
    """Every command that does something: names as typed."""
    for name in COMMANDS:
        command = commands.cli.get_command(click.Context(commands.cli), name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)
        else:
            yield (name,)


LEAVES = list(leaf_commands())


def test_the_fixed_names_are_there():
    assert set(COMMANDS) >= FIXED
    assert ("triggers", "export") in LEAVES


@pytest.mark.parametrize("name", LEAVES, ids=" ".join)
def test_help_of_every_command_has_an_example_that_starts_like_it_is_typed(name, tg):
    result = tg(*name, "--help")
    assert result.code == 0
    assert result.err == ""
    assert re.search(rf"Examples?:\s+ticketguard {' '.join(name)}\b", result.out), result.out
    # Examples keep their lines, and what tells click so is not shown.
    assert not re.search(r"\x08|\\b|[^\s:] +ticketguard ", result.out), result.out


@pytest.mark.parametrize("name", LEAVES, ids=" ".join)
def test_every_option_is_explained(name):
    command = commands.cli.get_command(click.Context(commands.cli), name[0])
    for inner in name[1:]:
        command = command.commands[inner]
    unexplained = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help and option.name != "seed"
    ]
    assert not unexplained


def test_options_of_a_probe_have_the_defaults_of_the_library():
    from ticketguard.probe.client import Courtesy
    from ticketguard.probe.run import DECOY_SHARE
    from ticketguard.probe.session import Manners

    probe = commands.cli.get_command(click.Context(commands.cli), "probe")
    given = {option.name: option.default for option in probe.params}
    manners = {name: getattr(Manners(), name) for name in ("budget", "workers", "jitter")}
    courtesy = {name: getattr(Courtesy(), name) for name in ("timeout", "retries", "rate")}
    wanted = {**manners, **courtesy, "decoys": DECOY_SHARE}
    assert {name: given[name] for name in wanted} == wanted


def test_options_of_a_probe_have_the_ranges_of_the_library():
    from ticketguard.probe.client import Courtesy
    from ticketguard.probe.schedule import Parameters
    from ticketguard.probe.session import Manners

    probe = commands.cli.get_command(click.Context(commands.cli), "probe")
    ranges = {option.name: option.type for option in probe.params}
    schedule = partial(Parameters, salt="12345678", decoys=1)
    library = {
        Courtesy: ("timeout", "retries", "rate"), Manners: ("budget", "workers", "jitter"), schedule: ("repeats",),
    }  # fmt: skip
    for make, names in library.items():
        for name in names:
            kind = ranges[name]
            within = [kind.max, None if kind.min_open else kind.min]
            outside = [kind.min - 1, None if kind.max is None else kind.max + 1]
            for value in (value for value in within if value is not None):
                make(**{name: value})
            for value in (value for value in outside if value is not None):
                with pytest.raises(UsageError):
                    make(**{name: value})


def test_what_reports_has_a_json_form():
    without = [" ".join(name) for name in LEAVES if not _has_json(name)]
    assert not without


def _has_json(name):
    command = commands.cli.get_command(click.Context(commands.cli), name[0])
    for inner in name[1:]:
        command = command.commands[inner]
    return any("--json" in option.opts for option in command.params)


def test_help_lists_every_command_without_importing_one(tg):
    result = tg("--help")
    assert result.code == 0
    for name, (_, words) in COMMANDS.items():
        assert name in result.out
        assert words in result.out


def test_version(tg):
    assert re.search(r"\d+\.\d+\.\d+", tg("--version").out)


def test_no_arguments_show_the_help(tg):
    result = tg()
    assert result.code == 2
    assert "Usage:" in result.out + result.err


class Broken(click.Command):
    """A command that fails in one way."""

    def __init__(self, problem):
        super().__init__("broken")
        self.problem = problem

    def invoke(self, ctx):
        raise self.problem


@pytest.mark.parametrize(
    ("problem", "code", "says"),
    [
        (UsageError("what\nwhere"), 2, "ticketguard: what where\n"),
        (click.UsageError("no\nsuch"), 2, "ticketguard: no such\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (ZeroDivisionError("ours"), 3, "ZeroDivisionError: ours\nticketguard: this is a bug in ticketguard"),
    ],
)
def test_exit_codes_of_failures(tg, monkeypatch, problem, code, says):
    monkeypatch.setattr(commands.cli, "get_command", lambda context, name: Broken(problem))
    result = tg("broken")
    assert result.code == code
    assert says in result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(("inspect", "signed/claim.dsse.json"), 0, marks=pytest.mark.slow),
        (("verify", "suspects/half.safetensors", "--signed", "signed"), 0),
        pytest.param(("verify", "suspects/unrelated.safetensors", "--signed", "signed"), 1, marks=pytest.mark.slow),
        (("inspect", "nowhere"), 2),
    ],
)
def test_a_reader_that_has_gone_changes_no_exit_code(world, arguments, code):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "ticketguard", *arguments]
    # Words to one pipe and errors to another: of the second, what Python itself says at exit can be read.
    done = subprocess.run(start, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert done.returncode == code
    assert done.stderr.count(b"\n") == (code == 2)
    if code != 1:
        done = subprocess.run(start, stdout=writer, stderr=writer, env=environment, timeout=60, check=False)
        assert done.returncode == code
    os.close(writer)


def test_a_pipe_that_breaks_inside_a_command_is_a_bug_and_no_verdict(tg, monkeypatch):
    problem = BrokenPipeError(errno.EPIPE, "Broken pipe")
    monkeypatch.setattr(commands.cli, "get_command", lambda context, name: Broken(problem))
    result = tg("broken")
    assert result.code == 3
    assert "this is a bug" in result.err


def test_launchers_of_a_checkout_do_the_same():
    for start in (["cli.py"], ["-m", "ticketguard"]):
        done = subprocess.run(
            [sys.executable, *start, "verify"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("ticketguard: Missing option '--signed'")


def test_shell_completion_after_a_mistyped_command_is_silent(capsys):
    completion = ShellComplete(commands.cli, {}, "ticketguard", "_TICKETGUARD_COMPLETE")
    assert "verify" in {item.value for item in completion.get_completions([], "ver")}
    completion.get_completions(["verfy"], "--")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("verfy", "no such command 'verfy': did you mean verify"),
        ("publsh", "did you mean publish?"),
        ("xyzzy", "no such command 'xyzzy' (see ticketguard --help)"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(typed, says, tg):
    result = tg(typed, "signed")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert says in result.err
