"""The committed bundle as values: nothing here is trained, and the key derivation runs once."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ticketguard.api import examiner_of
from ticketguard.bundle import Bundle
from ticketguard.storage.tensors import read_tensors
from ticketguard.verify.verifier import Examiner

FOLDER = Path(__file__).parents[2] / "fixtures" / "bundle-v1"
MASKED = ("conv2.weight", "conv3.weight")


@pytest.fixture(scope="session")
def signed():
    """`examiner` (aligns), `plain` (does not), `model` and `permuted` weights by name, `mask`, `unrelated`."""
    bundle = Bundle(FOLDER)
    examiner = examiner_of(bundle, "fixture")

    def tensors(path):
        file = read_tensors(path)
        return {name: np.array(file[name]) for name in file}

    model = {name: value for name, value in tensors(bundle.model).items() if not name.endswith("_mask")}
    return SimpleNamespace(
        bundle=bundle,
        opening=examiner.opening,
        examiner=examiner,
        plain=Examiner(examiner.opening),
        model=model,
        permuted={
            name.removeprefix("module."): value
            for name, value in tensors(FOLDER / "suspects" / "permuted.safetensors").items()
        },
        unrelated=tensors(FOLDER / "suspects" / "unrelated.safetensors"),
        mask={name: model[name] != 0 for name in MASKED},
        n=786,
    )
