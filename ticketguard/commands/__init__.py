"""The command line: parse, build a value, call one function, print. Nothing else lives here.

Commands are imported when they are used, so that `--help` does not pay for torch. Exit codes: 0 match or done, 1 no match or
inconclusive, 2 bad input or usage, 3 a bug of ours, with its traceback.
"""

from __future__ import annotations

import gc
import importlib
import io
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.exceptions import NoArgsIsHelpError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# name -> (module under this package, one line for --help)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "The whole story on handwritten digits, from finding to verifying."),
    "find": ("find", "Find a winning ticket by iterative magnitude pruning."),
    "keygen": ("keygen", "Make an owner's key pair."),
    "sign": ("sign", "Register a ticket and embed a signature in its topology."),
    "train": ("train", "Train a signed ticket, triggers mixed into every batch."),
    "claim": ("claim", "Sign an ownership claim over the trained model."),
    "publish": ("publish", "Copy what others may see of a signed folder, and nothing else."),
    "verify": ("verify", "Test suspects, by their weights or by their predictions."),
    "probe": ("probe", "Ask a service about the triggers and record a transcript."),
    "triggers": ("triggers", "Export the trigger images, to query somebody else's service."),
    "attack": ("attack", "Attack a model the way a thief would."),
    "suite": ("suite", "Measure robustness: a grid of attacks, strengths and seeds."),
    "timestamp": ("timestamp", "Date a registration or a claim with an RFC 3161 time stamp."),
    "transcript": ("transcript", "Record the answers of a suspect service for a judge."),
    "reveal": ("reveal", "Disclose one part of the secret, for one suspect and one judge."),
    "judge": ("judge", "Judge a claim from public files, and sign a verdict."),
    "dispute": ("dispute", "Decide who was first when two claims match."),
    "audit": ("audit", "Check a claim against yourself."),
    "withdraw": ("withdraw", "Withdraw a registration by a signed statement."),
    "lock": ("lock", "Split a ticket into a locked ticket and a small key mask."),
    "unlock": ("unlock", "Merge a key mask into its locked ticket."),
    "verify-lock": ("verify_lock", "Retrain locked, forged and unlocked: is the lock worth anything?"),
    "read-qr": ("read_qr", "Read the QR code in a suspect's topology."),
    "convert": ("convert", "Convert a checkpoint in the layout of the paper's authors."),
    "license": ("license", "Make a fingerprinted copy of a signed ticket for a licensee."),
    "trace": ("trace", "Name the licensees that a suspect came from."),
    "inspect": ("inspect", "Show what a ticket, model, registration or claim holds."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when one of them is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: the order in which an owner needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None when there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ticketguard.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click; an unknown name is answered with the nearest known ones."""
        # Shell completion parses half a line: an error would land in the prompt.
        typed = args and not args[0].startswith("-") and not ctx.resilient_parsing
        if typed and self.get_command(ctx, args[0]) is None:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=2)
            meant = f": did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"no such command {args[0][:80]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A pipe that breaks inside it is a bug of ours: click would say nothing, and exit with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as problem:
            raise RuntimeError("a pipe broke") from problem

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the table itself: `--help` imports no command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ticketguard")
def cli() -> None:
    """Sign a winning ticket and prove later, to anyone, that a suspect model descends from it.

    A first look:  ticketguard demo
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: the console script's entry point."""
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)
    code = run(arguments)
    # Python would search PyTorch's hundreds of modules for garbage once more, for half a second, before it ends.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from ticketguard.errors import TicketguardError
    from ticketguard.storage.hostile import visible

    try:
        code = cli.main(args=arguments, prog_name="ticketguard", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TicketguardError as problem:
        click.echo("ticketguard: " + visible(" ".join(str(problem).split())), err=True)
        return 2
    except NoArgsIsHelpError as problem:
        problem.show()
        return 2
    except click.ClickException as problem:
        # One line like every other complaint, where click itself would print four.
        click.echo(f"ticketguard: {' '.join(problem.format_message().split())}{_hint(problem)}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("ticketguard: interrupted", err=True)
        return 130
    except Exception:
        # Whatever arrives here is our bug, not the user's input.
        traceback.print_exc()
        click.echo(
            "ticketguard: this is a bug in ticketguard, not in your input; please report the lines above", err=True
        )
        return 3


class _Pipe(io.FileIO):
    """A file or pipe where what nobody reads is dropped."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write like any file; without a reader, pretend to."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _patient(stream: TextIO) -> TextIO:
    """The stream, without an error when its reader (head, less) goes first.

    A verdict is its exit code, whoever reads the words beside it: the command runs on to its end and its own code. click and
    rich would each exit with 1, "no match", and Python would complain once more when it flushes at exit. So the error is
    swallowed below all of them, where bytes leave.
    """
    # None: the caller closed it. A terminal stays (on Windows it is no file at all).
    if stream is None or stream.isatty():
        return stream
    raw = _Pipe(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=stream is sys.stderr
    )


def _hint(problem: click.ClickException) -> str:
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    return "" if context is None else f" (see {context.command_path} --help)"
