"""Answers as class indices: one rule for predictions files, services and transcripts."""

from __future__ import annotations

import numpy as np
import pytest

from ticketguard.errors import DataError
from ticketguard.triggers.labels import Classes
from ticketguard.triggers.plan import TriggerPlan, image_digest
from ticketguard.triggers.render import Triggers
from ticketguard.verify.transcript import Transcript, trigger_answers

TENS = ("10", "20", "30", "40")
ANIMALS = ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize("answer", ["--3", "---", "-", "3-", "+3", "3_0", "\u0663", "\u00b2", "9" * 5000])
def test_what_only_looks_like_a_number_is_an_unknown_name(answer):
    with pytest.raises(DataError, match="unknown class name"):
        Classes(names=ANIMALS).index(answer, where="here")


def test_the_first_of_equal_names_wins():
    assert Classes(names=("a", "b", "a")).index("a", where="here") == 0


def judged(answer, classes):
    """The index that a judge reads in a transcript with this one answer."""
    plan = TriggerPlan(per_leaf=1, leaves=1, shape=(1, 2, 2), classes=classes)
    image = np.zeros((1, 1, 2, 2), dtype=np.uint8)
    triggers = Triggers(images=image, labels=np.array([0]), indices=np.array([0]))
    transcript = Transcript(service="s", recorded_by="r", answers={image_digest(image[0]): answer})
    return trigger_answers(transcript, triggers, plan)[0].tolist()[0]


@pytest.mark.parametrize("classes", [TENS, ANIMALS])
@pytest.mark.parametrize("answer", ["10", "40", "cat", "0", "3", "4", "-1", "--3", "003", "99999999"])
def test_a_judge_reads_an_answer_as_the_owner_does(answer, classes):
    try:
        expected = Classes(names=classes).index(answer, where="here")
    except DataError:
        with pytest.raises(DataError, match="none of the registered"):
            judged(answer, classes)
    else:
        assert judged(answer, classes) == expected


def test_an_index_is_no_answer_where_class_names_are_numbers():
    assert judged("3", ANIMALS) == 3
    with pytest.raises(DataError):
        judged("3", TENS)


@pytest.mark.parametrize("answer", ["", " ", " cat"])
def test_a_judge_takes_no_answer_for_silence(answer):
    """Silence is an erasure elsewhere, and whoever records a transcript chooses what to leave out."""
    with pytest.raises(DataError):
        judged(answer, ANIMALS)
