import hashlib
import json

import numpy as np
import pytest

from ticketguard.claims import manifest
from ticketguard.errors import FormatError
from ticketguard.storage.tensors import read_tensors, write_tensors

WEIGHTS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.ones(3, dtype=np.uint8),
    "s": np.float32(1) * np.ones(()),
}


def test_digest_is_the_written_formula():
    raw = WEIGHTS["b"].tobytes()
    u64 = lambda value: value.to_bytes(8, "big")  # noqa: E731
    written = b"ticketguard/tensor/v1\0" + u64(1) + b"b" + u64(3) + b"F32" + (2).to_bytes(4, "big") + u64(2) + u64(3)
    assert manifest.tensor_digest("b", "F32", (2, 3), raw) == hashlib.sha256(written + u64(24) + raw).digest()


def test_manifest_does_not_depend_on_container_order_or_metadata(tmp_path):
    write_tensors(tmp_path / "one.safetensors", WEIGHTS, {})
    write_tensors(tmp_path / "two.safetensors", dict(reversed(WEIGHTS.items())), {"note": "x"})
    one, two = (manifest.manifest(read_tensors(tmp_path / f"{name}.safetensors")) for name in ("one", "two"))
    assert one == two
    assert [item["name"] for item in one] == ["a", "b", "s"]
    assert manifest.digest(one) == manifest.digest(two[::-1])
    compact = json.dumps(one, sort_keys=True, separators=(",", ":")).encode()
    assert manifest.digest(one) == hashlib.sha256(compact).hexdigest()


def test_every_part_of_a_tensor_matters():
    raw = bytes(8)
    digests = {
        manifest.tensor_digest(*arguments)
        for arguments in (
            ("a", "F32", (2,), raw),
            ("b", "F32", (2,), raw),
            ("a", "I32", (2,), raw),
            ("a", "F32", (2, 1), raw),
            ("a", "F32", (1, 2), raw),
            ("a", "F32", (2,), b"\x01" + raw[1:]),
        )
    }
    assert len(digests) == 6


def test_one_name_twice_is_refused():
    with pytest.raises(FormatError, match="twice"):
        manifest.digest([manifest.entry("a", "U8", (1,), b"x")] * 2)
