"""RFC 9162 trees: the reference data of Certificate Transparency, and the laws of inclusion proofs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.claims import merkle
from ticketguard.errors import AuthenticityError, UsageError

# Test data of the certificate-transparency reference implementation (RFC 6962; RFC 9162 kept the construction).
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_agree_with_the_reference(size):
    assert merkle.root(ENTRIES[:size]).hex() == ROOTS[size - 1]


def test_inclusion_proofs_agree_with_the_reference():
    path = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [node.hex() for node in merkle.proof(ENTRIES, 0)] == path
    assert merkle.root([]) == hashlib.sha256(b"").digest()


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=20, unique=True), st.data())
def test_every_proof_verifies_and_no_other_does(entries, data):
    index = data.draw(st.integers(0, len(entries) - 1))
    path, root = merkle.proof(entries, index), merkle.root(entries)
    merkle.verify(entries[index], index=index, size=len(entries), path=path, root=root)
    for wrong in (
        {"index": index + 1},
        {"index": -1},
        {"size": 2 * len(entries) + 1, "index": len(entries) + index},
        {"path": [*path, root]},
        {"path": [*path[:-1], bytes(32)] if path else [bytes(32)]},
        {"path": path[:-1] if path else [root]},
        {"path": [b"short", *path[1:]]},
        {"root": bytes(32)},
    ):
        arguments = {"index": index, "size": len(entries), "path": path, "root": root, **wrong}
        with pytest.raises(AuthenticityError):
            merkle.verify(entries[index], **arguments)
    with pytest.raises(AuthenticityError):
        merkle.verify(entries[index] + b"x", index=index, size=len(entries), path=path, root=root)


def test_inner_node_cannot_pass_for_an_entry():
    inner = merkle.leaf_hash(ENTRIES[0]) + merkle.leaf_hash(ENTRIES[1])
    with pytest.raises(AuthenticityError):
        merkle.verify(inner, index=0, size=1, path=[], root=merkle.root(ENTRIES[:2]))


@pytest.mark.parametrize("index", [-1, 8])
def test_proof_of_a_missing_entry_is_refused(index):
    with pytest.raises(UsageError):
        merkle.proof(ENTRIES, index)
