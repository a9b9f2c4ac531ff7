"""A search's directory: its configuration, a checkpoint after each epoch, finished rounds, metrics, and the results.

Every file is replaced atomically, the metrics grow line by line, and the round list is written last, so a search killed at any
moment finds a state it can go on from. Files: run.json, rewind.safetensors, checkpoint.safetensors, stages/NN.safetensors,
rounds.json, metrics.jsonl; and at the end dense.safetensors, ticket.safetensors, model.safetensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticketguard.errors import FormatError, UsageError
from ticketguard.finding.config import Round
from ticketguard.storage.atomic import is_there, make_folder, remove, running, write_bytes
from ticketguard.storage.documents import append_jsonl, encode, read_json, read_jsonl, write_json
from ticketguard.tickets import Model, Ticket, read_ticket, write_ticket
from ticketguard.training import TrainState, distributed, load_state, save_state

METRICS_LIMIT = 256 << 20
RESULTS = ("ticket", "model", "dense", "rewind")


@dataclass(frozen=True, kw_only=True)
class RunDirectory:
    """Reads and writes the files of one search; holds no state of its own.

    Of several processes, rank 0 writes and all read, so `path` must be on a file system that they share. Every method that
    writes is called on all ranks.
    """

    path: Path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Make the directory when it is missing, and hold it on rank 0 for all: `UsageError` where another search runs."""
        with contextlib.ExitStack() as stack:
            with distributed.first() as writer:
                if writer:
                    stack.enter_context(running(make_folder(self.path)))
            yield

    def claim(self, record: Mapping[str, Any]) -> None:
        """Take the directory for the search that `record` describes, or go on with it there.

        Raises `UsageError` when a search under another configuration began here, naming what differs, or when files that it
        would overwrite are somebody else's.
        """
        file = self.path / "run.json"
        with distributed.first() as writer:
            if writer and not is_there(file):
                self._refuse_foreign()
                make_folder(self.path / "stages")
                write_json(file, record)
        begun = read_json(file)
        if not isinstance(begun, dict):
            raise FormatError(f"{file}: not the record of a search")
        differences = list(_differences(begun, record))
        if differences:
            shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
            raise UsageError(
                f"{self.path}: holds a search under another configuration ({shown}): use another directory"
            )

    def _refuse_foreign(self) -> None:
        """Raise `UsageError` where results of something else would be overwritten: in a signed folder, for example."""
        names = (f"{name}.safetensors" for name in RESULTS)
        other = next((name for name in names if is_there(self.path / name)), None)
        if other is not None:
            raise UsageError(f"{self.path}: holds {other}, and no search began here: use another directory")

    def rounds(self) -> tuple[Round, ...]:
        """Finished rounds, the dense model first; empty at the start."""
        file = self.path / "rounds.json"
        if not is_there(file):
            return ()
        listed = read_json(file)
        try:
            if not isinstance(listed, list):
                raise TypeError
            return tuple(Round(**entry) for entry in listed)
        except TypeError as error:
            raise FormatError(f"{file}: not the rounds of a search") from error

    def finish_stage(self, rounds: tuple[Round, ...], model: Model, *, keep: frozenset[int]) -> None:
        """Record the last of `rounds` with its trained network; forget the networks of rounds not in `keep`."""
        with distributed.first() as writer:
            if writer:
                write_ticket(self._stage(len(rounds) - 1), model)
                write_json(self.path / "rounds.json", [entry.to_json() for entry in rounds])
            for index in range(len(rounds)) if writer else ():
                if index not in keep:
                    remove(self._stage(index))

    def stage(self, index: int) -> Model:
        """The trained network of a finished round."""
        found = read_ticket(self._stage(index))
        if not isinstance(found, Model):
            raise FormatError(f"{self._stage(index)}: not a trained network")
        return found

    def save_rewind(self, state: TrainState) -> None:
        """Keep the state that every round rewinds to."""
        with distributed.first() as writer:
            if writer:
                save_state(self.path / "rewind.safetensors", state, {})

    def rewind(self) -> TrainState:
        """The weights that every round starts from; the optimizer starts anew."""
        state, _ = load_state(self.path / "rewind.safetensors")
        return TrainState(weights=state.weights, epoch=state.epoch)

    def save_checkpoint(self, state: TrainState, *, stage: int) -> None:
        """Keep the state after an epoch of round `stage`."""
        with distributed.first() as writer:
            if writer:
                save_state(self.path / "checkpoint.safetensors", state, {"stage": stage})

    def checkpoint(self, *, stage: int) -> TrainState | None:
        """The last state of round `stage`, or None when that round has not begun."""
        file = self.path / "checkpoint.safetensors"
        if not is_there(file):
            return None
        state, notes = load_state(file)
        return state if notes.get("stage") == stage else None

    def cut_metrics(self, *, stage: int, epoch: int) -> None:
        """Leave the metric rows of earlier rounds and of this one up to `epoch`: what a checkpoint vouches for."""
        file = self.path / "metrics.jsonl"
        with distributed.first() as writer:
            if writer and is_there(file):
                rows = read_jsonl(file, limit=METRICS_LIMIT)
                kept = self._vouched(rows, stage, epoch)
                if len(kept) < len(rows):
                    text = "".join(encode(row, where="metrics") + "\n" for row in kept)
                    write_bytes(file, text.encode())

    def _vouched(self, rows: list[object], stage: int, epoch: int) -> list[object]:
        kept: list[object] = []
        for row in rows:
            if (
                not isinstance(row, dict)
                or not isinstance(row.get("stage"), int)
                or not isinstance(row.get("epoch"), int)
            ):
                raise FormatError(f"{self.path / 'metrics.jsonl'}: not the metrics of a search")
            if (row["stage"], row["epoch"]) <= (stage, epoch):
                kept.append(row)
        return kept

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Add the line of one epoch to the metrics file."""
        with distributed.first() as writer:
            if writer:
                append_jsonl(self.path / "metrics.jsonl", row)

    def save_results(self, values: Mapping[str, Ticket]) -> None:
        """Write the results of the search, each as `<name>.safetensors`."""
        with distributed.first() as writer:
            for name, value in values.items() if writer else ():
                write_ticket(self.path / f"{name}.safetensors", value)

    def _stage(self, index: int) -> Path:
        return self.path / "stages" / f"{index:02d}.safetensors"


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(set(begun) | set(wanted)):
        old, new = begun.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {old} there, {new} asked for")
    return found
