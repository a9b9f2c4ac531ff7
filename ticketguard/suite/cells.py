"""One cell: run the attack, then measure what it made. The attack has no part in the measuring."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Predict
from ticketguard.attacks.rebuild import module_of
from ticketguard.attacks.registry import make
from ticketguard.attacks.stacked import Stacked
from ticketguard.data.dataset import Images, Labels
from ticketguard.errors import TicketguardError
from ticketguard.evidence import Verdict
from ticketguard.suite.bench import Bench
from ticketguard.suite.plan import Cell
from ticketguard.suite.results import NOT_RUN, Result, Timing
from ticketguard.training import predict
from ticketguard.training.devices import resolve_device, settings
from ticketguard.triggers.score import ERASURE


def run_cell(bench: Bench, cell: Cell) -> tuple[Result, Timing]:
    """Attack and measure. An attack that does not apply to this model gives a result that says why, not an error."""
    attack = make(cell.attack, cell.strength)
    result = _blank(bench, cell, attack)
    started = time.perf_counter()
    try:
        with settings(threads=bench.threads, seed=cell.seed):
            attacked = attack.run(bench.victim(cell))
            middle = time.perf_counter()
            result = measure(bench, result, attacked)
    except TicketguardError as problem:
        middle = time.perf_counter()
        result = replace(result, decision=NOT_RUN, reason=" ".join(str(problem).split()))
    return result, Timing(attack=round(middle - started, 3), verify=round(time.perf_counter() - middle, 3))


def measure(bench: Bench, result: Result, attacked: Attacked) -> Result:
    """Accuracy on the test set and the verifier's verdict, added to `result`."""
    answer = service(bench, attacked)
    answers = answer(bench.dataset.test_images)
    verdict = judge(bench, attacked, answer)
    bits = strongest(verdict)
    edge = [found for test, found in bits.items() if test != "triggers"]
    return replace(
        result,
        decision=verdict.decision,
        reason=verdict.reason,
        accuracy=round(100.0 * float(np.mean(answers == bench.dataset.test_labels)), 4),
        refused=round(100.0 * float(np.mean(answers == ERASURE)), 4),
        edge_bits=max(edge) if edge else None,
        trigger_bits=bits.get("triggers"),
        bar_bits=verdict.bar_bits,
        hidden=attacked.hidden,
        epochs=attacked.epochs,
        images=attacked.images,
        verdict=verdict.to_json(),
    )


def service(bench: Bench, attacked: Attacked) -> Predict:
    """The attacked copy as a caller meets it: its network behind its front."""
    module = module_of(attacked).to(resolve_device(bench.device))

    def plain(images: Images) -> Labels:
        return predict(module, images, bench.dataset)

    front = attacked.front
    return plain if front is None else lambda images: front(plain, images)


def judge(bench: Bench, attacked: Attacked, answer: Predict) -> Verdict:
    """The verdict on the copy: from its weights unless they are hidden, and from its answers to the triggers."""
    triggers = bench.triggers
    predictions = None if triggers is None else answer(triggers.images)
    weights = None if attacked.hidden else attacked.weights
    # Aligned in any case: a partly permuted copy may pass as stored and would show less evidence than it holds.
    return bench.examiner.verify(weights, predictions=predictions, align="always", supplied_by="the suite")


def strongest(verdict: Verdict) -> dict[str, float]:
    """The most raw bits of each kind of test."""
    bits: dict[str, float] = {}
    for item in verdict.evidence:
        bits[item.test] = max(bits.get(item.test, 0.0), item.bits)
    return bits


def trains(cell: Cell) -> bool:
    """Whether the cell's attack trains: then it takes seconds to days, and most others a fraction of that."""
    return any(part.trains for part in _parts(make(cell.attack, cell.strength)))


def unsigned_matters(cell: Cell) -> bool:
    """Whether the cell's result depends on the ticket before signing."""
    return any(part.unsigned_matters for part in _parts(make(cell.attack, cell.strength)))


def _parts(attack: Attack) -> tuple[Attack, ...]:
    return attack.parts if isinstance(attack, Stacked) else (attack,)


def _blank(bench: Bench, cell: Cell, attack: Attack) -> Result:
    parts = _parts(attack)
    return Result(
        digest=cell.digest(bench.digest),
        cell=cell,
        label=repr(attack),
        unit=" + ".join(part.unit for part in parts if part.unit),
        lossless=all(part.lossless for part in parts),
        control=any(part.control for part in parts),
        decision=NOT_RUN,
        reason="",
    )
