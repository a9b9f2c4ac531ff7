"""`probe`, `verify --endpoint` and `verify --transcript` as typed, against a service on loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.probe.conftest import MASTER, SEED
from tests.probe.faulty import FaultyService, serving
from tests.probe.test_session import Service, answers_of
from ticketguard import commands
from ticketguard.bundle import Bundle
from ticketguard.claims import envelope, vault
from ticketguard.claims.keys import SecretKey, save_secret
from ticketguard.claims.opening import Opening
from ticketguard.claims.secret import Secret, write_secret
from ticketguard.probe.predictor import Reply
from ticketguard.probe.run import probe
from ticketguard.probe.session import Manners
from ticketguard.triggers.pictures import write_folder

pytest.importorskip("httpx", reason="the extra probe is not installed")
WORD = "a passphrase"
# The same salt and passphrase give the same key: once is enough.
KDFS = {name: (number, cache(derive)) for name, (number, derive) in vault.KDFS.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, opening: Opening) -> Path:
    """The signed folder and the owner's key, written once: passphrases are slow on purpose."""
    folder = tmp_path_factory.mktemp("made")
    bundle = Bundle(folder / "signed")
    bundle.folder.mkdir()
    key = SecretKey.from_seed(SEED)
    bundle.registration.write_bytes(envelope.sign(opening.payload, key))
    secret = Secret(master=MASTER, registration=hashlib.sha256(opening.payload).hexdigest())
    write_secret(bundle.secret, secret, WORD)
    save_secret(folder / "owner.key", key, WORD)
    return folder


@pytest.fixture
def signed(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed folder with a registration and its secret, all that a probe needs."""
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", WORD)
    monkeypatch.setattr(vault, "KDFS", KDFS)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "signed"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = commands.run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_probe_then_judge_elsewhere(
    tmp_path: Path, signed: Path, opening: Opening, owner: SecretKey, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(FaultyService(answers_of(opening, 0.95))) as url:
        code, out, _ = run(
            capsys, "probe", f"{url}/v2/models/m", "--signed", signed, "--out", "t.jsonl", "--key", "owner.key",
            "--rate", "0", "--leaf", "0", "--json",
        )  # fmt: skip
    assert code == 0
    assert json.loads(out)["signedBy"] == owner.public.keyid
    code, out, _ = run(capsys, "verify", "--transcript", "t.jsonl", "--signed", signed, "--json")
    verdict = json.loads(out)
    assert (code, verdict["decision"]) == (0, "MATCH")
    assert verdict["context"]["service"] == f"{url}/v2/models/m"
    code, out, _ = run(capsys, "verify", "--transcript", "t.jsonl", "--signed", signed)
    assert code == 0
    assert "MATCH" in out
    assert "lawful or unwitting access is not excluded" in " ".join(out.split())


def test_verify_endpoint_with_a_mapping_a_token_and_own_decoys(
    tmp_path: Path, signed: Path, opening: Opening, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "tok-123456")
    (tmp_path / "map.json").write_text(
        json.dumps({"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"})
    )
    write_folder(tmp_path / "decoys", np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    service = FaultyService(answers_of(opening, 0.0))
    with serving(service) as url:
        arguments = (
            "verify", "--endpoint", f"{url}/predict", "--mapping", "map.json", "--signed", signed, "--transcript",
            "t.jsonl", "--token-env", "SERVICE_TOKEN", "--rate", "0", "--leaf", "3", "--decoy-images", "decoys",
        )  # fmt: skip
        code, out, err = run(capsys, *arguments)
    assert (code, "NO MATCH" in out) == (1, True)
    assert service.headers[0]["Authorization"] == "Bearer tok-123456"
    assert "tok-123456" not in out + err + (tmp_path / "t.jsonl").read_text()
    code, out, _ = run(
        capsys, "verify", "--transcript", "t.jsonl", "--signed", signed, "--decoy-images", "decoys", "--json"
    )
    assert json.loads(out)["decision"] == "NO MATCH"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("probe", "http://127.0.0.1:9/x", "--out", "t"), "/v2/models/"),
        (("probe", "http://127.0.0.1:9/x", "--out", "t"), "--mapping FILE"),
        (("probe", "foo", "--out", "t"), "the endpoint 'foo' is not an http or https URL"),
        (("probe", "me:pass@host/x?key=k1", "--out", "t"), "the endpoint 'host/x' is not"),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--retries", "0"),
            "connection refused",
        ),
        (
            ("verify", "--endpoint", "http://127.0.0.1:9/x", "--mapping", "map.json", "--retries", "0"),
            "nothing was sent",
        ),
        (("probe", "http://no-such-host.invalid/v2/models/m", "--out", "t", "--retries", "0"), "not known"),
        (("probe", "ftp://host/v2/models/m", "--out", "t"), "http or https"),
        (("probe", "http://a:b@host/v2/models/m", "--out", "t"), "user name or password"),
        (("probe", "http://127.0.0.1:9/v2/models/m", "--out", "t", "--retries", "0"), "no answer"),
        (("probe", "http://127.0.0.1:9/v2/models/m", "--out", "t", "--token-env", "NO_SUCH"), "NO_SUCH"),
        (("probe", "http://127.0.0.1:9/v2/models/m", "--out", "t", "--header-env", "X"), "NAME=VAR"),
        (
            ("probe", "http://127.0.0.1:9/v2/models/m", "--out", "t", "--budget", "0"),
            "'--budget': 0 is not in the range",
        ),
        (("probe", "http://127.0.0.1:9/v2/models/m", "--out", "t", "--rate", "-1"), "rate"),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "bad.json"), "mapping"),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "list.json"), "JSON object"),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--leaf", "9"), "leaf 9"),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--decoys", "99"), "decoys"),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--repeats", "0"),
            "'--repeats': 0 is not in the range",
        ),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--service-input", "bad.json"),
            "input",
        ),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--label-map", "bad.json"),
            "exactly once",
        ),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "half.json"), "surrogates"),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--label-map", "halfmap.json"),
            "surrogates",
        ),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--label-map", "mixed.json"),
            "exactly once",
        ),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--decoy-images", "none"),
            "no such folder",
        ),
        (("probe", "http://127.0.0.1:9/x", "--out", "bad.json", "--mapping", "map.json"), "transcript"),
        (("probe", "missing.onnx", "--out", "t"), "missing.onnx"),
        (("probe", "missing.onnx", "--out", "t", "--rate", "-1"), "rate"),
        (("probe", "missing.onnx", "--out", "t", "--rate", "nan"), "rate"),
        (("probe", "missing.onnx", "--out", "t", "--rate", "inf"), "rate"),
        (("probe", "missing.onnx", "--out", "t", "--timeout", "0"), "'--timeout': 0.0 is not in the range"),
        (("probe", "missing.onnx", "--out", "t", "--timeout", "nan"), "time-out"),
        (("probe", "missing.onnx", "--out", "t", "--retries", "-1"), "'--retries': -1 is not in the range"),
        (("probe", "missing.onnx", "--out", "t", "--jitter", "nan"), "jitter"),
        (("probe", "missing.onnx", "--out", "t", "--header-env", "foo"), "NAME=VAR"),
        (("probe", "missing.onnx", "--out", "t", "--token-env", "NO_SUCH"), "NO_SUCH"),
        (("probe", "missing.onnx", "--out", "t", "--token-env", "TICKETGUARD_PASSPHRASE"), "for services"),
        (("probe", "missing.onnx", "--out", "t", "--output-name", "zz"), "for services"),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--output-name", "zz"),
            "--mapping says",
        ),
        (
            ("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--suspects", "0"),
            "'--suspects': 0 is not in the range",
        ),
        (("probe", "http://127.0.0.1:9/x", "--out", "t", "--mapping", "map.json", "--suspects", "-3"), "suspects"),
        (("verify", "--transcript", "missing.jsonl"), "missing.jsonl"),
        (("verify", "--transcript", "bad.json"), "transcript"),
        (("verify", "x.safetensors", "--endpoint", "http://host/"), "stand alone"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(
    tmp_path: Path, signed: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "bad.json").write_text('{"colour": 1}\n')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "map.json").write_text('{"image": "png", "at": "a", "label": "b"}')
    (tmp_path / "half.json").write_text('{"image": "png", "at": "a", "label": "b", "body": {"x": "\\ud800"}}')
    names = {str(number): str(number) for number in range(9)}
    (tmp_path / "halfmap.json").write_text(json.dumps({**names, "\ud800": "9"}))
    (tmp_path / "mixed.json").write_text(json.dumps({**names, "9": 9}))
    before = sorted(path for path in tmp_path.rglob("*"))
    code, out, err = run(capsys, *arguments, "--signed", signed)
    assert code == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before


LABELS = {"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"}


def test_a_service_that_is_never_reached_leaves_a_begun_transcript_as_it_was(
    tmp_path: Path, signed: Path, opening: Opening, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the torn line of a crash at its end, too; and the session goes on when the service is back."""
    (tmp_path / "map.json").write_text(json.dumps(LABELS))
    answers = answers_of(opening, 1.0)
    with serving(FaultyService(answers)) as url:
        rest = ("--mapping", "map.json", "--signed", signed, "--out", "t.jsonl", "--rate", "0", "--retries", "1")
        assert run(capsys, "probe", f"{url}/predict", *rest, "--budget", "9")[0] == 0
    lines = (tmp_path / "t.jsonl").read_bytes().split(b"\n")
    begun = b"\n".join(lines[:8]) + b'\n{"kind":"a'
    (tmp_path / "t.jsonl").write_bytes(begun)
    code, out, err = run(capsys, "probe", f"{url}/predict", *rest)
    assert (code, out, "connection refused" in err, err.count("\n")) == (2, "", True, 1)
    assert (tmp_path / "t.jsonl").read_bytes() == begun


def test_a_service_that_goes_away_later_stays_recorded(tmp_path: Path, opening: Opening) -> None:
    """Only a session in which nothing was sent is taken back."""
    replies = [Reply(status="refused", detail="HTTP 403"), *[Reply(status="failed", detail="gone", reached=False)] * 3]
    service = Service({}, lambda digest, answer: replies.pop(0) if len(replies) > 1 else replies[0])
    transcript = probe(opening, service, tmp_path / "t.jsonl", manners=Manners(workers=1, give_up=4))
    assert "gone" in str(transcript.ended)
    assert len(transcript.asked) == 4


class Talkative(FaultyService):
    """A service whose answers are a fixed JSON document, around what was sent to it."""

    def __init__(self, answer: object) -> None:
        super().__init__({})
        self.spoken = answer

    def label(self, image: np.ndarray) -> object:  # type: ignore[override]
        return self.spoken


@pytest.mark.parametrize(
    ("answer", "path", "says"),
    [
        ("cat", "predictions[0].label", ["unknown label: 'cat'", "registered classes are '0', '1'", "--label-map"]),
        ("cat", "outputs[0].name", ["no label at outputs[0].name", '{"predictions": [{"label": "cat"}]}']),
        ("\x1b[2J", "predictions[0].label", ["unknown label: ", "x1b[2J"]),
        ("Bearer tok-123456", "predictions[0].label", ["repeats part of the address or of a header"]),
        ("key-123456", "outputs[0]", ["no label at outputs[0]", "repeats part of the address or of a header"]),
        ({"x": "n" * 5000}, "predictions[0].label", ["no label at predictions[0].label", "characters more"]),
    ],
)
def test_why_no_answer_was_usable_is_said_without_secrets(
    tmp_path: Path, signed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    answer: object, path: str, says: list[str],
) -> None:  # fmt: skip
    """On the screen, and not in the transcript, which never holds a service's own words."""
    monkeypatch.setenv("SERVICE_TOKEN", "tok-123456")
    (tmp_path / "map.json").write_text(json.dumps({**LABELS, "label": path}))
    with serving(Talkative(answer)) as url:
        code, out, err = run(
            capsys, "probe", f"{url}/predict?key=key-123456", "--mapping", "map.json", "--signed", signed, "--out",
            "t.jsonl", "--rate", "0", "--token-env", "SERVICE_TOKEN",
        )  # fmt: skip
    assert code == 1
    assert "0 usable answers" in out
    assert (err.count("\n"), len(err) < 600, "\x1b" in err) == (1, True, False)
    assert [words for words in says if words not in err] == []
    record = (tmp_path / "t.jsonl").read_text()
    assert not [secret for secret in ("tok-123456", "key-123456", "cat", "nnnn") if secret in out + record]
    assert not [secret for secret in ("tok-123456", "key-123456") if secret in err]


@pytest.mark.parametrize("budget", [1, 7])
def test_the_budget_counts_the_metadata(
    signed: Path, opening: Opening, capsys: pytest.CaptureFixture[str], budget: int
) -> None:
    with serving(FaultyService(answers_of(opening, 1.0))) as url:
        service = ("probe", f"{url}/v2/models/m", "--signed", signed, "--out", "t.jsonl", "--rate", "0")
        code, out, err = run(capsys, *service, "--budget", budget, "--json")
    if budget == 1:
        assert (code, out, "metadata" in err) == (2, "", True)
    else:
        assert (code, json.loads(out)["queries"] <= 7, json.loads(out)["answered"]) == (0, True, 6)


def test_no_report_holds_the_token_the_address_query_or_a_leaf(
    tmp_path: Path, signed: Path, opening: Opening, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words, JSON and HTML, of a verdict and of a failure."""
    monkeypatch.setenv("SERVICE_TOKEN", "tok-123456")
    (tmp_path / "map.json").write_text(
        json.dumps({"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"})
    )
    texts = []
    with serving(FaultyService(answers_of(opening, 0.0))) as url:
        for number, form in enumerate(([], ["--json"], ["--html", "report.html"], ["--leaf", "99"])):
            _, out, err = run(
                capsys, "verify", "--endpoint", f"{url}/predict?key=key-123456#part-123456", "--mapping", "map.json",
                "--signed", signed, "--transcript", f"{number}.jsonl", "--token-env", "SERVICE_TOKEN", "--rate", "0",
                "--leaf", "1", "--decoys", "0", *form,
            )  # fmt: skip
            texts += [out, err]
    files = [path for path in tmp_path.iterdir() if path.suffix in (".jsonl", ".html")]
    assert len(files) == 4
    assert "leaf 99" in texts[-1]
    for text in [*texts, *(path.read_text() for path in files)]:
        hidden = ["tok-123456", "key-123456", "part-123456", *(leaf.hex() for leaf in opening.leaves.values())]
        assert not [secret for secret in hidden if secret in text]
