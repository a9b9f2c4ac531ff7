"""Other people's tools read our files: DSSE libraries, in-toto, the openssl command."""

import base64
import hashlib
import json
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ticketguard.claims import card, envelope, keys, ownership, withdrawal
from ticketguard.claims import license as licences
from ticketguard.verify import verdicts
from ticketguard.verify.judge import digest_of


@pytest.fixture(scope="module")
def envelopes(world, owner):
    suspect = world.tensors_of(owner.model)
    _, shown = owner.reveal_for(digest_of(suspect))
    _, verdict = verdicts.sign(owner.case(suspect), owner.key, nonce=world.NONCE, now=world.NOW)
    made = owner.registered
    _, withdrawn = withdrawal.make(made.registration, made.payload, owner.key, reason="stolen")
    licence = licences.sign(
        licences.License(
            owner="Owner 1",
            public_key=owner.key.public,
            registration=hashlib.sha256(made.payload).hexdigest(),
            licensee="Example Ltd",
            serial="ab" * 16,
            copy="cd" * 32,
            kind="tardos",
            bits=2048,
            collusion=3,
        ),
        owner.key,
    )
    return {
        "registration": made.envelope,
        "ownership-claim": owner.claim_envelope,
        "reveal": shown,
        "verdict": verdict,
        "license": licence,
        "withdrawal": withdrawn,
    }


NAMES = ["registration", "ownership-claim", "reveal", "verdict", "license", "withdrawal"]


@pytest.mark.parametrize("name", NAMES)
def test_securesystemslib_verifies_our_envelopes(envelopes, owner, world, name):
    pytest.importorskip("securesystemslib")
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    def key_of(public):
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public.raw), keyid=owner.key.public.keyid)

    read = Envelope.from_dict(json.loads(envelopes[name]))
    assert read.payload == envelope.open(envelopes[name]).payload
    assert read.pae() == envelope.pae(read.payload)
    assert read.verify([key_of(owner.key.public)], 1)
    with pytest.raises(VerificationError):
        read.verify([key_of(world.key_of(9).public)], 1)


def test_we_verify_an_envelope_of_securesystemslib(owner):
    pytest.importorskip("securesystemslib")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    from ticketguard.claims import canonical

    private = Ed25519PrivateKey.from_private_bytes(owner.key.seed)
    public = SSlibKey.from_crypto(private.public_key(), keyid=owner.key.public.keyid)
    made = Envelope(owner.registered.payload, envelope.PAYLOAD_TYPE, {})
    made.sign(CryptoSigner(private, public))
    # Ours are stricter than DSSE: canonical JSON. Signature and base64 are the same bytes.
    assert canonical.encode(made.to_dict()) == owner.registered.envelope


@pytest.mark.parametrize("name", NAMES)
def test_in_toto_attestation_validates_our_statements(envelopes, name):
    pytest.importorskip("in_toto_attestation")
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    text = envelope.open(envelopes[name]).payload.decode()
    parsed = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert parsed.predicate_type == f"urn:ticketguard:{name}/v1"


@pytest.mark.slow
def test_the_cyclonedx_schema_validates_our_fragment(owner):
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib is installed without json-validation")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    claim = ownership.parse(envelope.open(owner.claim_envelope).payload)
    document = card.ml_bom(claim, owner.claim_envelope, location="https://example.org/claim.dsse.json")
    validator = JsonStrictValidator(SchemaVersion.from_version(card.BOM_VERSION))
    assert validator.validate_str(json.dumps(document)) is None
    # The check bites: a digest cut short, a field unknown to the schema.
    component = document["components"][0]
    short = component["externalReferences"][0] | {"hashes": [{"alg": "SHA-256", "content": "ab"}]}
    for wrong in (component | {"externalReferences": [short]}, component | {"owner": "Owner 1"}):
        assert validator.validate_str(json.dumps(document | {"components": [wrong]})) is not None


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is missing")
@pytest.mark.parametrize("name", NAMES)
def test_openssl_verifies_our_signatures(envelopes, owner, tmp_path, name):
    keys.save_public(tmp_path / "owner.pub", owner.key.public)
    wrapper = json.loads(envelopes[name])
    message = envelope.pae(base64.b64decode(wrapper["payload"]))
    (tmp_path / "signature").write_bytes(base64.b64decode(wrapper["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "owner.pub", "-rawin", "-in", "message"]
    for content, code in ((message, 0), (message + b" ", 1)):
        (tmp_path / "message").write_bytes(content)
        done = subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == code
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "owner.pub", "-outform", "DER"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    assert hashlib.sha256(der).hexdigest() == wrapper["signatures"][0]["keyid"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is missing")
def test_openssl_makes_keys_that_we_read(tmp_path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "k.pem"], cwd=tmp_path, check=True)
    subprocess.run(["openssl", "pkey", "-in", "k.pem", "-pubout", "-out", "k.pub"], cwd=tmp_path, check=True)
    (tmp_path / "message").write_bytes(b"message")
    sign = ["openssl", "pkeyutl", "-sign", "-inkey", "k.pem", "-rawin", "-in", "message", "-out", "signature"]
    subprocess.run(sign, cwd=tmp_path, check=True)
    keys.load_public(tmp_path / "k.pub").verify((tmp_path / "signature").read_bytes(), b"message")
