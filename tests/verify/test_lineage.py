"""Lineage: chance is the overlap with frames in random places, and what they have in common is worked out once."""

import numpy as np

from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import frame_counts
from ticketguard.masks import keep_largest
from ticketguard.signing import register
from ticketguard.tickets import Architecture, Ticket
from ticketguard.verify import lineage


def test_chance_reads_the_suspect_once_for_all_frames(monkeypatch):
    dense = {"a.weight": np.random.default_rng(1).normal(size=(64, 48, 3, 3)).astype(np.float32)}
    mask = keep_largest({name: np.abs(array) for name, array in dense.items()}, 6000)
    weights = {name: np.where(mask[name], array, np.float32(0)) for name, array in dense.items()}
    ticket = Ticket(architecture=Architecture(), weights=weights, mask=mask)
    registered = register(ticket, SecretKey.from_seed(bytes(32)), owner="Owner").registration
    reference = frame_counts(mask, registered.layers)
    frames, reads, align, locate = [], [], lineage.align_suspect, lineage.locate
    monkeypatch.setattr(lineage, "align_suspect", lambda *given: frames.append(given[2]) or align(*given))
    monkeypatch.setattr(lineage, "locate", lambda *given: reads.append(given) or locate(*given))
    chance = lineage.chance_overlap(weights, registered, reference)
    assert len(frames) == lineage.CHANCE_TRIES
    assert len(reads) == 1
    assert chance == max(
        [lineage.frame_overlap(weights, registered, frame) for frame in frames[: lineage.CHANCE_TRIES]]
    )
    assert lineage.frame_overlap(weights, registered, reference) > 0.99
