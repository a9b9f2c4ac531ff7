"""What opens a registration: leaves of the secret, checked against its root, and the streams that hang on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ticketguard.claims import merkle, streams
from ticketguard.claims.registration import GRINDING_BITS, Registration
from ticketguard.claims.streams import NO_BEACON
from ticketguard.errors import AuthenticityError
from ticketguard.evidence import Rule


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Leaves that are known to belong to a registration. Build it with `open_all` or `open_one`, which check them.

    `payload` is the exact signed payload of the registration, `beacon` 32 bytes, `leaves` maps leaf number to its 32 bytes.
    """

    registration: Registration
    payload: bytes
    beacon: bytes
    # As secret as long as nobody reveals them: not to be shown with the value.
    leaves: Mapping[int, bytes] = field(repr=False)

    @cached_property
    def binder(self) -> bytes:
        """B: what binds every stream to every parameter of the registration."""
        return streams.binder(self.payload, self.beacon)

    def rule(self, suspects: int = 1) -> Rule:
        """The registered decision rule, for a search among `suspects`.

        The allowance for a claimant who searched sinks only when a beacon really entered the binder; that it comes from a
        trusted authority is for the judge to check.
        """
        registered = self.registration
        grinding = registered.grinding_bits if self.beacon != NO_BEACON else GRINDING_BITS["none"]
        return Rule(tests=registered.tests, suspects=suspects, grinding_bits=grinding)

    def stream(self, label: str, leaf: int) -> streams.Stream:
        """The stream of a revealed leaf under `label`."""
        return streams.Stream(label, self.binder, leaf, self.leaves[leaf])


def derive_leaves(registration: Registration, master: bytes) -> dict[int, bytes]:
    """All K leaves of a master secret under the registration's key."""
    return {j: streams.leaf(master, registration.public_key.spki, j) for j in range(registration.leaves)}


def root_of(leaves: Mapping[int, bytes]) -> bytes:
    """RFC 9162 Merkle root over the commitments to all leaves, in order."""
    return merkle.root([streams.commitment(leaves[j], j) for j in range(len(leaves))])


def open_all(registration: Registration, payload: bytes, master: bytes, beacon: bytes = NO_BEACON) -> Opening:
    """The owner's opening with every leaf. Raises `AuthenticityError` when the secret is not the registered one."""
    leaves = derive_leaves(registration, master)
    if root_of(leaves) != registration.root:
        raise AuthenticityError(
            "the secret does not belong to this registration (its Merkle root differs): "
            "use the secret.tgs that sign wrote beside it"
        )
    return Opening(registration=registration, payload=payload, beacon=beacon, leaves=leaves)


def open_one(
    registration: Registration, payload: bytes, index: int, leaf: bytes, proof: list[bytes], beacon: bytes = NO_BEACON
) -> Opening:
    """A judge's opening with one leaf and its inclusion proof. Raises `AuthenticityError` when the proof does not hold."""
    if not 0 <= index < registration.leaves:
        raise AuthenticityError(f"the registration has {registration.leaves} leaves, number {index} is none of them")
    merkle.verify(
        streams.commitment(leaf, index), index=index, size=registration.leaves, path=proof, root=registration.root
    )
    return Opening(registration=registration, payload=payload, beacon=beacon, leaves={index: leaf})
