"""RFC 3161 time stamps from a local authority (`openssl ts`): dates, beacons, and everything that must be refused."""

import http.server
import json
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

pytest.importorskip("rfc3161_client")
pytest.importorskip("asn1crypto")
if shutil.which("openssl") is None:
    pytest.skip("the openssl command is missing", allow_module_level=True)

from tests.thinned import thinned
from ticketguard.bundle import Bundle
from ticketguard.claims import timestamps
from ticketguard.claims.secret import read_secret, write_secret
from ticketguard.commands import run
from ticketguard.errors import AuthenticityError, FormatError, StorageError, UsageError
from ticketguard.tickets import write_ticket
from ticketguard.verify.judge import judge

CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = {name}
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[web]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = critical,serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = tsa1
[tsa1]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class Authority:
    """A certificate authority with one time-stamp signer, in a folder."""

    def __init__(self, folder, *, kind="rsa", usage="signer", name="Test"):
        folder.mkdir()
        self.folder = folder
        (folder / "conf").write_text(CONFIG.format(name=name))
        (folder / "serial").write_text("01")
        key = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        common = ["-nodes", "-config", "conf"]
        root = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-extensions", "ca"]
        self.run("req", "-x509", "-newkey", *key, *root, *common)
        self.run(
            "req", "-newkey", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", f"/CN={name} stamps", *common
        )
        sign = ["-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7", "-days", "30"]
        self.run("x509", "-req", *sign, "-extfile", "conf", "-extensions", usage, "-out", "tsa.pem")
        self.roots = timestamps.load_roots(folder / "ca.pem")

    def run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def stamp(self, query):
        (self.folder / "query").write_bytes(query)
        signer = ["-signer", "tsa.pem", "-inkey", "tsa.key"]
        self.run("ts", "-reply", "-config", "conf", "-section", "tsa1", "-queryfile", "query", *signer, "-out", "reply")
        return (self.folder / "reply").read_bytes()


SIGN = ("sign", "base.safetensors", "--key", "owner.key", "--out", "signed", "--no-triggers")


def done(*arguments):
    code = run([str(item) for item in arguments])
    assert code == 0, arguments


def payload_of(signed):
    return Bundle(signed).read_registration()[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa") / "rsa")


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa") / "ec", kind="ec")


@pytest.fixture(scope="module")
def token(authority):
    return authority.stamp(timestamps.request(b"payload"))


def test_token_gives_a_date_an_authority_and_a_beacon(authority, token, tmp_path):
    stamp = timestamps.verify(token, b"payload", authority.roots)
    assert abs((datetime.now(UTC) - stamp.time).total_seconds()) < 60
    assert "Test stamps" in stamp.authority
    assert len(stamp.beacon) == 32
    (tmp_path / "x.tsr").write_bytes(token)
    assert timestamps.read_stamp(tmp_path / "x.tsr", b"payload", authority.roots) == stamp


def test_beacon_is_the_hash_of_the_signature_octets(authority, token):
    """Read again by the openssl command: the last OCTET STRING of the token is the SignerInfo's signature."""
    import hashlib

    (authority.folder / "t.tsr").write_bytes(token)
    listing = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER", "-in", "t.tsr"],
        cwd=authority.folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    octets = [line for line in listing.splitlines() if "OCTET STRING" in line][-1]
    signature = bytes.fromhex(octets.rsplit(":", 1)[1].strip())
    assert len(signature) == 256
    assert timestamps.verify(token, b"payload", authority.roots).beacon == hashlib.sha256(signature).digest()


def test_two_stamps_of_one_payload_have_different_beacons(authority, token):
    other = authority.stamp(timestamps.request(b"payload"))
    assert (
        timestamps.verify(other, b"payload", authority.roots).beacon
        != timestamps.verify(token, b"payload", authority.roots).beacon
    )


def test_swapping_s_of_an_ecdsa_token_keeps_the_beacon(curve):
    """Anyone can turn (r, s) into (r, n - s): two valid tokens, which must not be two tries at a beacon."""
    from asn1crypto import tsp
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    token = curve.stamp(timestamps.request(b"payload"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SEC 2
    response = tsp.TimeStampResp.load(token)
    info = response["time_stamp_token"]["content"]["signer_infos"][0]
    r, s = decode_dss_signature(info["signature"].native)
    info["signature"] = encode_dss_signature(r, order - s)
    swapped = response.dump()
    assert swapped != token
    one, two = (timestamps.verify(item, b"payload", curve.roots) for item in (token, swapped))
    assert one.beacon == two.beacon


def test_an_authority_on_another_curve_is_refused():
    key = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(AuthenticityError, match="curve secp256k1, which is not supported"):
        timestamps._canonical_signature(b"", SimpleNamespace(public_key=key.public_key), "stamp")


def look_alike(authority, *, subject, issuer=lambda text: text, serial=None):
    """A certificate that anyone can make: the signer's issuer and serial number, another name and key, a stamp's purpose."""
    real = x509.load_pem_x509_certificate((authority.folder / "tsa.pem").read_bytes())
    key = Ed25519PrivateKey.generate()
    names = [x509.NameAttribute(item.oid, issuer(item.value)) for item in real.issuer]
    builder = x509.CertificateBuilder(x509.Name(names), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
    builder = builder.public_key(key.public_key()).serial_number(serial or real.serial_number)
    builder = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2040, 1, 1))
    purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING])
    return builder.add_extension(purpose, critical=True).sign(key, None).public_bytes(Encoding.DER)


def with_certificates(token, change):
    """The token with `change` applied to the list of its certificates, which no signature covers."""
    from asn1crypto import cms, tsp

    response = tsp.TimeStampResp.load(token)
    signed = response["time_stamp_token"]["content"]
    certificates = sorted(change([choice.dump() for choice in signed["certificates"]]))
    signed["certificates"] = cms.CertificateSet([cms.CertificateChoices.load(der) for der in certificates])
    return response.dump()


ISSUERS = {"the same": str, "another case": str.upper, "a hyphen that is not seen": lambda text: "\u00ad".join(text)}


@pytest.mark.parametrize("kind", list(ISSUERS))
@pytest.mark.parametrize("key", ["ed25519", "unknown", "damaged"])
def test_look_alike_of_the_signers_certificate_names_no_authority(curve, kind, key):
    """Beside the real one, sorted before it: it must not give the stamp its name, nor its key type to the rule on s."""
    token = curve.stamp(timestamps.request(b"payload"))
    fake = look_alike(curve, subject="Federal Notary", issuer=ISSUERS[kind])
    spki = bytes.fromhex("06032b6570032100")
    fake = fake.replace(spki, {"unknown": b"\x06\x03+ec\x03!\0", "damaged": b"\x06\x03+eo\x03!\0"}.get(key, spki))
    with pytest.raises(AuthenticityError, match=r"carry the signer's serial number|does not verify"):
        timestamps.verify(with_certificates(token, lambda real: [fake, *real]), b"payload", curve.roots)


def test_certificates_of_others_in_a_token_change_nothing(curve):
    token = curve.stamp(timestamps.request(b"payload"))
    other = look_alike(curve, subject="Federal Notary", serial=1)
    more = with_certificates(token, lambda real: [other, *real])
    assert more != token
    assert timestamps.verify(more, b"payload", curve.roots) == timestamps.verify(token, b"payload", curve.roots)


def test_signer_is_the_certificate_whose_hash_was_signed(curve):
    """Where the reader pins the signer's own certificate, the one in the token is not needed to verify the signature."""
    token = curve.stamp(timestamps.request(b"payload"))
    roots = [*curve.roots, *timestamps.load_roots(curve.folder / "tsa.pem")]
    assert "Test stamps" in timestamps.verify(token, b"payload", roots).authority
    swapped = with_certificates(token, lambda real: [look_alike(curve, subject="Federal Notary")])
    with pytest.raises(AuthenticityError, match="not bound to the signer's certificate"):
        timestamps.verify(swapped, b"payload", roots)


@pytest.mark.parametrize("form", ["sha1", "sha256", "sha384", "sha512"])
def test_every_form_of_naming_the_certificate_is_known(tmp_path, form):
    authority = Authority(tmp_path / "tsa", kind="ec")
    conf = authority.folder / "conf"
    conf.write_text(conf.read_text().replace("ess_cert_id_alg = sha256", f"ess_cert_id_alg = {form}"))
    token = authority.stamp(timestamps.request(b"payload"))
    assert "Test stamps" in timestamps.verify(token, b"payload", authority.roots).authority


def test_other_payloads_roots_and_digests_are_refused(authority, curve, token):
    with pytest.raises(AuthenticityError, match="does not verify"):
        timestamps.verify(token, b"another payload", authority.roots)
    with pytest.raises(AuthenticityError, match="does not verify"):
        timestamps.verify(token, b"payload", curve.roots)
    with pytest.raises(UsageError, match="pin one"):
        timestamps.verify(token, b"payload", [])
    (authority.folder / "data").write_bytes(b"payload")
    authority.run("ts", "-query", "-data", "data", "-sha512", "-cert", "-out", "q512")
    long = authority.stamp((authority.folder / "q512").read_bytes())
    with pytest.raises(AuthenticityError, match="not SHA-256"):
        timestamps.verify(long, b"payload", authority.roots)


def test_token_without_its_certificate_is_refused(authority):
    authority.run("ts", "-query", "-data", "conf", "-sha256", "-out", "bare")
    bare = authority.stamp((authority.folder / "bare").read_bytes())
    with pytest.raises(AuthenticityError):
        timestamps.verify(bare, (authority.folder / "conf").read_bytes(), authority.roots)


def test_signer_without_the_time_stamping_purpose_cannot_stamp(tmp_path):
    """openssl itself refuses to stamp with a web certificate; so the chain can only be tested by its refusal."""
    web = Authority(tmp_path / "web", usage="web")
    with pytest.raises(subprocess.CalledProcessError):
        web.stamp(timestamps.request(b"payload"))


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x30\x03\x02\x01\x02", b"\x30\x80" * 1000])
def test_what_is_no_response_is_refused(authority, junk):
    with pytest.raises(FormatError, match="not an RFC 3161"):
        timestamps.verify(junk, b"payload", authority.roots)


def test_changed_tokens_are_refused_or_mean_the_same(authority, token):
    """Every byte flipped: an error of ours, or (outside what is signed) exactly the same date and beacon."""
    stamp = timestamps.verify(token, b"payload", authority.roots)
    accepted = 0
    for position in range(0, len(token), 7):
        flipped = bytearray(token)
        flipped[position] ^= 0x11
        try:
            found = timestamps.verify(bytes(flipped), b"payload", authority.roots)
        except (AuthenticityError, FormatError):
            continue
        accepted += 1
        assert (found.time, found.beacon) == (stamp.time, stamp.beacon)
    assert accepted < len(token) // 7 // 4


def test_roots_must_be_certificates(tmp_path):
    (tmp_path / "roots.pem").write_bytes(b"no certificate")
    with pytest.raises(FormatError, match="no PEM certificates"):
        timestamps.load_roots(tmp_path / "roots.pem")


@contextmanager
def served(answer):
    """A server at a free port of this machine; `answer(query)` gives the raw bytes of its HTTP response."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            self.wfile.write(answer(query))

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def ok(body):
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/timestamp-reply\r\n\r\n" + body


def test_authority_is_asked_over_http(authority):
    with served(lambda query: ok(authority.stamp(query))) as url:
        timestamps.verify(timestamps.obtain(b"payload", url), b"payload", authority.roots)
    with pytest.raises(StorageError, match="no answer"):
        timestamps.obtain(b"payload", url)
    for bad in ("file:///etc/passwd", "ftp://x", ""):
        with pytest.raises(UsageError, match="http"):
            timestamps.obtain(b"payload", bad)


@pytest.fixture
def registered(world, tmp_path, monkeypatch, passphrase):
    """A registration that waits for its stamp, in `signed`."""
    monkeypatch.chdir(tmp_path)
    write_ticket(tmp_path / "base.safetensors", world.random_model(60))
    done("keygen", "--out", "owner.key")
    done(*SIGN, "--owner", "Lab", "--beacon", "rfc3161", "--register-only")
    return tmp_path / "signed"


def test_a_registration_for_a_stamp_waits_for_it(registered, capsys):
    """Embedded without its stamp, the signature has the high bar for ever."""
    embed = [*SIGN[:-1], "--registration", "signed/registration.dsse.json"]
    assert run(embed) == 2
    words = "signed/registration.dsse.json is registered for a time stamp (--beacon rfc3161) and has none: run "
    assert words in capsys.readouterr().err
    assert not (registered / "ticket.safetensors").exists()
    done(*embed, "--without-stamp")
    assert (registered / "ticket.safetensors").exists()
    capsys.readouterr()
    done(*SIGN[:5], "other", "--no-triggers", "--owner", "Lab", "--beacon", "rfc3161", "--register-only")
    assert "next          ticketguard timestamp other, then sign --registration; without " in capsys.readouterr().out


def test_timestamp_asks_an_authority_by_its_address(authority, registered, capsys):
    with served(lambda query: ok(authority.stamp(query))) as url:
        arguments = ("timestamp", "signed", "--url", url, "--root", authority.folder / "ca.pem")
        done(*arguments)
        assert "taken into the secret" in capsys.readouterr().out
        stamp = timestamps.verify(
            (registered / "registration.tsr").read_bytes(), payload_of(registered), authority.roots
        )
        assert read_secret(registered / "secret.tgs", "correct horse").beacon == stamp.beacon
        assert run([str(item) for item in arguments]) == 2
        done(*SIGN[:-1], "--registration", "signed/registration.dsse.json")
        shutil.copy("signed/ticket.safetensors", "signed/model.safetensors")
        done("claim", "signed", "--key", "owner.key")
        capsys.readouterr()
        done(*arguments, "--claim", "--json")
    assert json.loads(capsys.readouterr().out)["beacon"] is False
    assert (registered / "claim.tsr").exists()


def test_two_stamps_at_a_time_leave_the_beacon_of_the_one_that_is_kept(authority, registered, tmp_path, monkeypatch):
    """Beacon and stamp of different tokens would be a signature that nobody can ever stamp."""
    from ticketguard.commands import timestamp as module

    def slow(*arguments):
        time.sleep(0.3)  # long enough for the other to find no stamp, if nothing held it back
        write_secret(*arguments)

    def attach(name):
        return run(["timestamp", "signed", "--response", name, "--root", str(authority.folder / "ca.pem")])

    for name in ("one.tsr", "two.tsr"):
        (tmp_path / name).write_bytes(authority.stamp(timestamps.request(payload_of(registered))))
    monkeypatch.setattr(module, "write_secret", slow)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attach, ("one.tsr", "two.tsr"))) == [0, 2]
    kept = timestamps.verify((registered / "registration.tsr").read_bytes(), payload_of(registered), authority.roots)
    assert read_secret(registered / "secret.tgs", "correct horse").beacon == kept.beacon


ANSWERS = {
    "an error page": lambda query, authority: b"HTTP/1.0 500 No\r\n\r\nno",
    "no HTTP": lambda query, authority: b"\x00\xff junk\r\n\r\n",
    "nothing": lambda query, authority: b"",
    "less than announced": lambda query, authority: b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n0",
    "a page": lambda query, authority: ok(b"<html>"),
    "megabytes": lambda query, authority: ok(bytes(3 << 20)),
    "a loop": lambda query, authority: b"HTTP/1.0 302 Found\r\nLocation: /again\r\n\r\n",
    "a file": lambda query, authority: b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "another payload's stamp": lambda query, authority: ok(authority.stamp(timestamps.request(b"another payload"))),
}


@pytest.mark.parametrize("kind", thinned(ANSWERS, fast=["a loop", "a file", "another payload's stamp"]))
def test_what_an_authority_should_not_answer_is_one_line(authority, registered, capsys, kind):
    before = {path: path.read_bytes() for path in registered.iterdir()}
    with served(lambda query: ANSWERS[kind](query, authority)) as url:
        capsys.readouterr()
        assert run(["timestamp", "signed", "--url", url, "--root", str(authority.folder / "ca.pem")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in registered.iterdir()} == before


@pytest.mark.parametrize("url", ["http://[::", "http://", "http://127.0.0.1:99999/", "http://a b/", "http://\u0000/"])
def test_addresses_that_are_none_are_one_line(authority, registered, capsys, url):
    capsys.readouterr()
    assert run(["timestamp", "signed", "--url", url, "--root", str(authority.folder / "ca.pem")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


# What a stamp does to a judgement


def stamped_party(world, authority, **options):
    """Register, stamp, embed: the beacon enters every stream."""
    base = world.random_model(20)
    draft, _ = world.make_party(20, base, beacon="rfc3161")
    token = authority.stamp(timestamps.request(draft.registered.payload))
    stamp = timestamps.verify(token, draft.registered.payload, authority.roots)
    party, _ = world.make_party(20, base, beacon="rfc3161", beacon_bytes=stamp.beacon)
    assert party.registered.payload == draft.registered.payload
    return replace(party, stamp=stamp)


def test_trusted_beacon_lowers_the_bar_and_dates_the_claim(world, authority, unrelated):
    party = stamped_party(world, authority)
    suspect = world.tensors_of(world.trained(party.model, 3))
    found = judge(party.case(suspect), nonce=world.NONCE, now=world.NOW)
    assert (found.outcome, found.verdict.rule.grinding_bits, found.verdict.bar_bits) == ("MATCH", 20.0, 66.0)
    assert found.priority["status"] == "stamped"
    assert judge(party.case(unrelated), nonce=world.NONCE, now=world.NOW).outcome == "NO MATCH"


def test_beacon_that_nobody_trusts_keeps_the_high_bar(world, authority):
    party = stamped_party(world, authority)
    suspect = world.tensors_of(world.trained(party.model, 3))
    found = judge(party.case(suspect, stamp=None), nonce=world.NONCE, now=world.NOW)
    assert (found.verdict.rule.grinding_bits, found.priority) == (80.0, {"status": "unproven"})


def test_another_stamp_than_the_one_embedded_is_refused(world, authority):
    party = stamped_party(world, authority)
    other = replace(party.stamp, beacon=bytes(31) + b"\x01")
    suspect = world.tensors_of(party.model)
    with pytest.raises(AuthenticityError, match="beacon"):
        judge(party.case(suspect, stamp=other), nonce=world.NONCE, now=world.NOW)


def test_stamp_added_later_dates_but_never_lowers_the_bar(world, authority, owner):
    token = authority.stamp(timestamps.request(owner.registered.payload))
    stamp = timestamps.verify(token, owner.registered.payload, authority.roots)
    found = judge(owner.case(world.tensors_of(owner.model), stamp=stamp), nonce=world.NONCE, now=world.NOW)
    assert found.verdict.rule.grinding_bits == 80.0
    assert found.priority == {"status": "stamped", **stamp.to_json(), "beacon": False}


# From the command line: register, stamp, embed, claim, reveal, judge


def test_register_stamp_embed_judge(world, authority, registered, tmp_path, capsys):
    done("keygen", "--out", "judge.key")
    done("timestamp", "signed", "--request", "query.tsq")
    (tmp_path / "reply.tsr").write_bytes(authority.stamp((tmp_path / "query.tsq").read_bytes()))
    root = ("--root", authority.folder / "ca.pem")
    done("timestamp", "signed", "--response", "reply.tsr", *root)
    assert "taken into the secret" in capsys.readouterr().out
    assert run(["timestamp", "signed", "--response", "reply.tsr", *map(str, root)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    done(*SIGN[:-1], "--registration", "signed/registration.dsse.json")
    shutil.copy("signed/ticket.safetensors", "signed/model.safetensors")
    done("claim", "signed", "--key", "owner.key")
    capsys.readouterr()
    done("timestamp", "signed", "--claim", "--request", "claim.tsq", "--json")
    assert json.loads(capsys.readouterr().out) == {"query": "claim.tsq"}
    (tmp_path / "claim.tsr").write_bytes(authority.stamp((tmp_path / "claim.tsq").read_bytes()))
    done("timestamp", "signed", "--claim", "--response", "claim.tsr", *root, "--json")
    assert (tmp_path / "signed" / "claim.tsr").exists()
    suspect = ("--suspect", "signed/model.safetensors")
    done("reveal", "signed", *suspect, "--nonce", world.NONCE, "--key", "owner.key", "--out", "reveal.json")
    capsys.readouterr()
    judge = (
        "judge",
        "signed",
        "--reveal",
        "reveal.json",
        *suspect,
        "--nonce",
        world.NONCE,
        "--key",
        "judge.key",
        "--json",
    )
    done(*judge, "--out", "pinned.json", *root)
    pinned = json.loads(capsys.readouterr().out)
    assert (pinned["verdict"]["barBits"], pinned["priority"]["status"]) == (66.0, "stamped")
    done(*judge, "--out", "unpinned.json")
    unpinned = json.loads(capsys.readouterr().out)
    assert (unpinned["verdict"]["barBits"], unpinned["priority"]["status"]) == (126.0, "unproven")
    (tmp_path / "signed" / "registration.tsr").write_bytes((tmp_path / "claim.tsr").read_bytes())
    assert run([*map(str, judge), "--out", "x.json", *map(str, root)]) == 2
    assert "does not verify" in capsys.readouterr().err
