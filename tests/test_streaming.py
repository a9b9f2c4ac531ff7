"""Signing a ticket from its file, layer by layer, gives the bytes that signing it in memory gives."""

import tracemalloc

import numpy as np
import pytest

from ticketguard import signing
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import FormatError
from ticketguard.masks import Mask, StoredMask
from ticketguard.storage.tensors import bf16, read_tensors, write_tensors
from ticketguard.tickets import Architecture, Model, Ticket, open_ticket, write_ticket

KEY = SecretKey.from_seed(bytes(32))
SHAPE = (128, 64, 3, 3)


def ticket(kind=Ticket, layers=3, shape=SHAPE):
    rng = np.random.default_rng(0)
    mask = Mask({f"{n}.weight": rng.random(shape, dtype=np.float32) < 0.1 for n in range(layers)})
    weights = {name: np.where(mask[name], rng.standard_normal(shape, dtype=np.float32), np.float32(0)) for name in mask}
    return kind(architecture=Architecture(), weights={"bias": np.ones(3, np.float32), **weights}, mask=mask)


def signed(value, rewind=None):
    options = {"master": bytes(range(32)), "nonce": bytes(32)}
    return signing.sign(value, KEY, owner="Lab", rewind=rewind, **options)


@pytest.mark.parametrize("kind", [Ticket, Model])
@pytest.mark.parametrize("rewound", [False, True])
def test_a_file_signs_to_the_same_bytes(tmp_path, kind, rewound):
    value = ticket(kind)
    rewind = {name: np.full(SHAPE, 0.5, np.float32) for name in value.mask} if rewound else None
    write_ticket(tmp_path / "unsigned", value)
    stored = open_ticket(read_tensors(tmp_path / "unsigned"), where="unsigned")
    assert type(stored) is kind
    assert isinstance(stored.mask, StoredMask)
    before, after = signed(value, rewind), signed(stored, rewind)
    assert before[0].payload == after[0].payload
    assert (before[1].moved, before[1].edges, before[1].informative) == (
        after[1].moved,
        after[1].edges,
        after[1].informative,
    )
    write_ticket(tmp_path / "memory", before[1].ticket)
    write_ticket(tmp_path / "file", after[1].ticket)
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "file").read_bytes()
    assert before[1].moved > 100


@pytest.mark.slow
def test_memory_stays_under_twice_the_largest_layer(tmp_path):
    # Layers that are large beside the pairs drawn in them, whose number is bounded.
    shape = (1024, 512, 3, 3)
    unsigned = ticket(layers=3, shape=shape)
    write_ticket(tmp_path / "unsigned", unsigned)
    kept = unsigned.mask.kept
    del unsigned
    tracemalloc.start()
    _, embedded = signed(open_ticket(read_tensors(tmp_path / "unsigned"), where="unsigned"))
    write_ticket(tmp_path / "signed", embedded.ticket)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 4 * np.prod(shape)
    assert open_ticket(read_tensors(tmp_path / "signed"), where="signed").mask.kept == kept


def test_pruned_positions_of_a_file_are_zero_whatever_it_holds(tmp_path):
    mask = np.arange(8).reshape(2, 4) % 2
    write_tensors(tmp_path / "f", {"a": np.full((2, 4), 3.0), "a_mask": mask.astype(np.uint8)}, {})
    found = open_ticket(read_tensors(tmp_path / "f"), where="f")
    assert np.array_equal(found.weights["a"], 3.0 * mask)
    assert np.array_equal(found.mask["a"], mask == 1)
    with pytest.raises(KeyError):
        found.weights["b"]


def test_small_floats_become_float32(tmp_path):
    values = np.array([[1.0, 0.0, 2.0, 0.5]])
    write_tensors(tmp_path / "f", {"a": bf16(values), "a_mask": (values != 0).astype(np.uint8)}, {})
    write_ticket(tmp_path / "g", open_ticket(read_tensors(tmp_path / "f"), where="f"))
    found = read_tensors(tmp_path / "g")
    assert found.info("a").dtype == "F32"
    assert np.array_equal(found["a"], values)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    write_tensors(tmp_path / "f", {"a": np.zeros(4), "a_mask": np.zeros((2, 2))}, {})
    with pytest.raises(FormatError, match="shape"):
        open_ticket(read_tensors(tmp_path / "f"), where="f")
