"""Verification: an opened registration and a suspect become a verdict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.opening import Opening
from ticketguard.claims.registration import frame_digest
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.evidence import TURNED, UNREAD, VIEWS, Evidence, Rule, Verdict, decide
from ticketguard.graph.cells import Counts
from ticketguard.signatures.board import Board, Weight
from ticketguard.signatures.carriers import all_carriers
from ticketguard.signatures.turns import TURNS, turned, turned_places
from ticketguard.tickets import Weights
from ticketguard.triggers.plan import required_plan
from ticketguard.triggers.score import trigger_tests
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights, locate, unread, unread_note
from ticketguard.verify.whitebox import edge_tests

Align = Literal["auto", "always", "never"]

# What a test of turned kernels is charged.
TURN_BITS = 4.0
# Share of the pairs that may hold no finite number before a suspect that is at chance is not cleared.
MOST_ERASED = 0.01


class Examiner:
    """An opened registration made ready for many suspects: what does not depend on a suspect is computed once.

    `reference` gives the frame as cell counts (of the released ticket); it is called, once, only when a suspect has to be
    aligned. Without it suspects are read as stored only.
    """

    def __init__(self, opening: Opening, *, reference: Callable[[], Counts] | None = None) -> None:
        self.opening = opening
        self._reference = reference
        self._board = Board(all_carriers(opening))

    def __reduce__(self) -> tuple[Callable[..., Examiner], tuple[Opening]]:
        """What another process needs; the carriers are drawn anew there."""
        return partial(Examiner, reference=self._reference), (self.opening,)

    @cached_property
    def reference(self) -> Counts | None:
        """The reference frame, checked: `AuthenticityError` when its digest is not the committed one."""
        if self._reference is None:
            return None
        counts = self._reference()
        if frame_digest(counts) != self.opening.registration.frame:
            raise AuthenticityError(
                "the released ticket's frame is not the registered one: give the ticket that this registration was made for"
            )
        return counts

    @cached_property
    def _turns(self) -> dict[str, dict[str, NDArray[np.int64]]]:
        """By turn, where it finds every place of a kernel."""
        return {turn: turned_places(self.opening.registration.layers, turn) for turn in TURNS}

    def read_weights(self, weights: Weights, rule: Rule, *, align: Align = "auto") -> tuple[list[Evidence], list[str]]:
        """Every white-box test of one suspect, and notes on how it was read.

        As stored first. Aligned as well when `align` is "always", or "auto" and nothing passed, and with kernels turned when
        nothing passed then: a test left out can only cost the owner, and the number of tests paid for stays the same.
        """
        layers = self.opening.registration.layers
        effective = effective_weights(weights, layers)
        located = locate(effective, layers)
        left = unread(weights, effective, located.matched, self.opening.registration, self._board.sample)
        notes = [*located.notes, *([unread_note(left)] if left else [])]
        evidence = self._tests(located.weights, "stored") if located.weights else []
        passed = any(item.bits >= rule.bar_bits for item in evidence)
        if align == "never" or (align == "auto" and passed):
            # Channels in another order would be at chance now, and what was not looked at clears nobody.
            if not passed:
                notes.append(f"{UNREAD}channels in another order: alignment was switched off")
            return evidence, [*notes, *self._not_finite(evidence)]
        found: Mapping[str, Weight] = located.weights
        if self.reference is None:
            notes.append(
                f"{UNREAD}channels in another order: the released ticket, whose frame alignment needs, was not given"
            )
        else:
            aligned = align_suspect(effective, self.opening.registration, self.reference)
            notes += aligned.notes
            if aligned.moved and aligned.weights:
                found = aligned.weights
                evidence += self._tests(found, "aligned")
        notes += self._not_finite(evidence)
        if not any(item.bits >= rule.bar_bits for item in evidence):
            further, words = self._turned(found, rule)
            evidence, notes = [*evidence, *further], [*notes, *words]
        return evidence, notes

    def lineage(self, weights: Weights) -> float:
        """Lineage score in [0, 1] of a model after alignment: unkeyed, without a p-value, to be read beside other models'.

        Raises `UsageError` when the released ticket, whose frame is the reference, was not given.
        """
        if self.reference is None:
            raise UsageError("a lineage score needs the released ticket: its frame is the reference")
        registered = self.opening.registration
        return align_suspect(effective_weights(weights, registered.layers), registered, self.reference).lineage

    def _turned(self, weights: Mapping[str, Weight], rule: Rule) -> tuple[list[Evidence], list[str]]:
        """Tests with all kernels turned in the way in which most pairs agree, and a note; none where that is still at chance.

        There are seven ways and two statistics, so 14 tests a scope, each charged `TURN_BITS`: their weights add up to 14/16 of
        a test. M has room for one a scope, as it counts triggers in the aligned view, which has none.
        """
        layers = self.opening.registration.layers
        if not any(layers[name].kernel > 1 for name in weights):
            return [], []
        agreed = {
            turn: _clear_bits(self._board.support(weights, places).values()) for turn, places in self._turns.items()
        }
        turn = max(agreed, key=agreed.__getitem__)
        if agreed[turn] < rule.chance_bits + TURN_BITS:
            return [], []
        null = f"; one of {len(TURNS)} ways to turn the kernels, each test of each charged {TURN_BITS:g} bits"
        evidence = [
            replace(
                item,
                log2_p=min(0.0, item.log2_p + TURN_BITS),
                capacity_bits=max(0.0, item.capacity_bits - TURN_BITS),
                null=item.null + null,
            )
            for item in self._tests(turned(weights, layers, turn), TURNED)
        ]
        return evidence, [f"kernels read {turn}: they agree with the secret there, at a charge of {TURN_BITS:g} bits"]

    def _not_finite(self, evidence: Sequence[Evidence]) -> list[str]:
        """A note when so many carriers are not finite numbers that something else may be meant, such as zero by NaN."""
        erased = max(
            sum(
                item.erasures
                for item in evidence
                if (item.test, item.view) == ("support", view) and item.scope != "pooled"
            )
            for view in VIEWS
        )
        if erased <= MOST_ERASED * self._board.pairs:
            return []
        return [
            f"{UNREAD}{erased:,} of {self._board.pairs:,} pairs of carriers, where the suspect has no finite numbers"
        ]

    def _tests(self, weights: Mapping[str, Any], view: str) -> list[Evidence]:
        registered = self.opening.registration
        return edge_tests(
            self._board.read(weights), leaves=registered.leaves, view=view, magnitude=registered.magnitude_test
        )

    def verify(
        self,
        weights: Weights | None = None,
        *,
        predictions: NDArray[np.int64] | None = None,
        charge_bits: float = 0.0,
        suspects: int = 1,
        align: Align = "auto",
        supplied_by: str = "",
        context: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> Verdict:
        """The verdict on one suspect, from its weights, from its predictions on the triggers, or from both.

        `predictions`: int64 labels in the order of the pooled triggers, -1 for an erasure; `charge_bits`: bits that a label map
        supplied afterwards costs; `suspects`: number of suspects in this scan. Raises `UsageError` with neither.
        """
        if weights is None and predictions is None:
            raise UsageError("nothing to verify: give a suspect's weights or its predictions")
        rule = self.opening.rule(suspects)
        evidence: list[Evidence] = []
        said = list(notes)
        if weights is not None:
            found, words = self.read_weights(weights, rule, align=align)
            evidence += found
            said += words
        if predictions is not None:
            plan = required_plan(self.opening.registration)
            evidence += trigger_tests(self.opening, plan, predictions, charge_bits=charge_bits)
        return decide(evidence, rule, notes=tuple(said), supplied_by=supplied_by, context=dict(context or {}))


def _clear_bits(counts: Collection[tuple[int, int]]) -> float:
    """Hoeffding's bound, in bits, on the support test of the leaf, or of all leaves pooled, that agrees most."""
    pooled = tuple(map(sum, zip(*counts, strict=True)))
    return max(2 * n * max(0.0, matches / n - 0.5) ** 2 / log(2) if n else 0.0 for n, matches in (*counts, pooled))
