"""A second verifier, written from docs/protocol.md alone: numpy, hashlib, json and cryptography, nothing of ticketguard.

`verify(public, reveal, suspect)` checks registration, claim and reveal and returns the judge's evidence on a suspect's weights;
`answers(public, reveal, labels)` does so for labels in trigger order. Errors are AssertionErrors.
"""

import base64
import hashlib
import json
from math import comb, log2, prod

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "u1", "U16": "<u2", "I64": "<i8"}


def lp(data):
    return len(data).to_bytes(8, "big") + data


def sha256(*data):
    return hashlib.sha256(b"".join(data)).digest()


def open_envelope(data, signers=()):
    """Payload, predicate and key (SPKI) of a DSSE envelope, verified under the key it names, one of the ids `signers`."""
    wrapper = json.loads(data)
    payload, kind = base64.b64decode(wrapper["payload"], validate=True), wrapper["payloadType"].encode()
    key = base64.b64decode(json.loads(payload)["predicate"]["publicKey"], validate=True)
    (signature,) = wrapper["signatures"]
    assert signature["keyid"] == sha256(key).hex() in (signers or [signature["keyid"]])
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    Ed25519PublicKey.from_public_bytes(key[12:]).verify(base64.b64decode(signature["sig"]), message)
    return payload, json.loads(payload)["predicate"], key


def read_tensors(data):
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {n: (t["dtype"], t["shape"], data[8 + size :][slice(*t["data_offsets"])]) for n, t in header.items()}


def manifest_digest(tensors):
    rows = []
    for name, (dtype, shape, raw) in sorted(tensors.items(), key=lambda item: item[0].encode()):
        sizes = len(shape).to_bytes(4, "big") + np.array(shape, ">u8").tobytes()
        digest = sha256(b"ticketguard/tensor/v1\0", lp(name.encode()), lp(dtype.encode()), sizes, lp(raw)).hex()
        rows.append({"name": name, "dtype": dtype, "shape": shape, "sha256": digest})
    return sha256(json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hex()


def frame_digest(registration, ticket):
    counts = {}
    for layer in registration["layers"]:
        dtype, shape, raw = ticket[layer["name"] + "_mask"]
        assert (dtype, shape) == ("U8", layer["shape"])
        rows = np.frombuffer(raw, "u1").reshape(shape[0], -1) != 0
        matrix = np.add.reduceat(rows, range(0, rows.shape[1], layer["cell"]), axis=1, dtype="<u2")
        counts[layer["name"]] = ("U16", list(matrix.shape), matrix.tobytes())
    return manifest_digest(counts)


def open_case(public, reveal):
    payload, registration, key = open_envelope((public / "registration.dsse.json").read_bytes())
    signers = [sha256(key).hex(), *(registration["successors"] or [])]
    claim, shown = (open_envelope(file.read_bytes(), signers)[1] for file in (public / "claim.dsse.json", reveal))
    assert not (public / "withdrawal.dsse.json").exists()
    assert sha256(payload).hex() == claim["registration"]["sha256"] == shown["registration"]["sha256"]
    ticket = read_tensors((public / "ticket.safetensors").read_bytes())
    assert frame_digest(registration, ticket) == registration["frame"]["sha256"]
    beacon, j, leaf = (bytes.fromhex(shown["beacon"]), shown["leaf"]["index"], bytes.fromhex(shown["leaf"]["secret"]))
    node = sha256(b"\0" + sha256(b"ticketguard/v1/commitment" + j.to_bytes(4, "big") + leaf))
    fn, sn = j, registration["leaves"] - 1
    for other in map(bytes.fromhex, shown["leaf"]["proof"]):  # RFC 9162, 2.1.3.2
        node = sha256(b"\1" + (other + node if (left := fn & 1 or fn == sn) else node + other))
        while left and not fn & 1 and fn:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    assert (sn, node.hex()) == (0, registration["merkleRoot"])
    return registration, sha256(b"ticketguard/v1/binder", sha256(payload), beacon), j, leaf


def words(binder, j, leaf, label, count):
    digest = hashlib.shake_256(lp(b"ticketguard/v1/" + label.encode()) + binder + j.to_bytes(4, "big") + leaf).digest(
        8 * count
    )
    return [int.from_bytes(digest[i : i + 8], "big") for i in range(0, len(digest), 8)]


def pairs(layer, leaves, j, stream):
    full = prod(layer["shape"][1:]) // layer["cell"]
    fan_in, m = prod(layer["shape"][1:]), layer["cell"]
    own, touched, kept = len(range(j, layer["shape"][0] * full, leaves + 1)), set(), []
    for w in zip(*[iter(stream)] * 4, strict=True):
        cell, a = j + (leaves + 1) * (w[0] % own), w[1] % m
        start = cell // full * fan_in + cell % full * m
        pair = (start + a, start + (a + 1 + w[2] % (m - 1)) % m)
        if not touched & set(pair):
            kept.append((*pair, w[3] % 2))
        touched |= set(pair)
    return np.array(kept).reshape(-1, 3)


def tail(matches, n, chances):
    return log2(sum(comb(n, k) * (chances - 1) ** (n - k) for k in range(matches, n + 1))) - n * log2(chances)


def verify(public, reveal, suspect):
    """{"support": (n, matches, log2 p), "magnitude" or its square: ...} of a suspect with registered layer names."""
    registration, binder, j, leaf = open_case(public, reveal)
    tensors, told, support = read_tensors(suspect.read_bytes()), [], []
    for layer in registration["layers"]:
        stream = words(binder, j, leaf, "edge/" + layer["name"], 4 * layer["pairsPerLeaf"])
        first, second, bits = pairs(layer, registration["leaves"], j, stream).T
        dtype, shape, raw = tensors[layer["name"]]
        assert shape == layer["shape"]
        flat = np.abs(np.frombuffer(raw, DTYPES[dtype]).astype(float))
        fine = np.isfinite(flat[first]) & np.isfinite(flat[second])
        at, fan_in = np.concatenate([first, second]), prod(shape[1:])
        w = np.where(np.tile(fine, 2), flat[at], 0.0)
        support += [int(x == b) for x, y, b in zip(w[: len(bits)] > 0, w[len(bits) :] > 0, bits, strict=True) if x != y]
        bins = [at // fan_in, at % fan_in // prod(shape[2:])]
        if (w[w > 0] < 1e-100 * w.max()).any():
            for index in bins:
                w = w / np.array([w[index == number].max(initial=0) or 1 for number in range(max(index) + 1)])[index]
            w[w < 1e-100] = 0
        w = w / (w.max() or 1)
        for index in bins * 3:
            squares = np.bincount(index, w * w)
            w = w / np.sqrt(np.where(squares > 0, squares / np.maximum(np.bincount(index), 1), 1))[index]
        d = w[: len(bits)] - w[len(bits) :]
        told += zip(np.abs(d)[(d != 0) & fine], np.where((d > 0) == bits, 1, -1)[(d != 0) & fine], strict=True)
    (v, s), name = np.array(told).reshape(-1, 2).T, registration["testPlan"]["statistics"][1]
    v = np.minimum(v, 3) ** 2 if name == "squared-magnitude" else np.minimum(v, 1)
    v, s = v[v > 1e-100 * v.max(initial=0)], s[v > 1e-100 * v.max(initial=0)]
    bounds = [(np.logaddexp(x * v, -x * v) - np.log(2)).sum() - x * (v @ s) for x in np.geomspace(1e-3, 30, 4000)]
    edges = len(support), sum(support), tail(sum(support), len(support), 2)
    return {"support": edges, name: (len(s), (s > 0).sum(), min(0, *bounds) / np.log(2))}


def answers(public, reveal, labels):
    """(n, matches, log2 p) of integer labels for the revealed leaf's triggers, in order."""
    registration, binder, j, leaf = open_case(public, reveal)
    classes, t = len(registration["classes"]), registration["triggers"]["perLeaf"]
    drawn = words(binder, j, leaf, "triggers/labels", 2 * t + 64)
    targets = [word % classes for word in drawn if word < 2**64 // classes * classes][:t]
    return t, (matches := sum(map(int.__eq__, targets, labels))), tail(matches, t, classes)
