"""The page of a real suspect: pictures of its layers and of its QR code, and `verify --html` from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import html5lib
import numpy as np
import pytest

from ticketguard.bundle import Bundle
from ticketguard.commands import run
from ticketguard.masks import Mask
from ticketguard.report.suspects import pictures_of
from ticketguard.storage.suspects import read_any
from ticketguard.tickets import Weights

BUNDLE = Bundle(Path(__file__).parents[2] / "fixtures" / "bundle-v1")


def with_code(text: str, weights: Weights) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """`weights` with a QR code in the topology of conv3, and the place of the code."""
    pytest.importorskip("segno")
    pytest.importorskip("zxingcpp")
    from ticketguard.signatures.qr import embed

    # The fixture's density leaves too few edges outside a code, so the layer is filled a little first.
    rng = np.random.default_rng(0)
    mask = Mask({"conv3.weight": rng.random((24, 24, 3, 3)) < 0.2})
    embedded = embed(mask, text, generator=rng, version=1, error="L")
    values = np.where(embedded.mask["conv3.weight"], 1.0, 0.0).astype(np.float32)
    return {**{name: np.asarray(weights[name]) for name in weights}, "conv3.weight": values}, embedded.place.to_json()


def test_the_largest_registered_layers_are_drawn_as_stored() -> None:
    registered, _ = BUNDLE.read_registration()
    weights = read_any(BUNDLE.model)
    pictures = pictures_of(weights, registered)
    assert [picture.title for picture in pictures] == [f"Kept weights per cell, {name}" for name in registered.layers]
    empty = float((np.asarray(weights["conv3.weight"]) != 0).reshape(24, 24, 9).any(axis=2).mean())
    assert f"24 output channels by 24 cells; {1 - empty:.0%} of them are empty" in pictures[1].alt


def test_a_registered_qr_code_is_drawn_and_decoded_with_its_caveat() -> None:
    registered, _ = BUNDLE.read_registration()
    weights, place = with_code("key12", read_any(BUNDLE.model))
    picture = pictures_of(weights, replace(registered, qr=place))[-1]
    assert picture.path
    assert "decodes to “key12”" in picture.alt
    assert "proves nothing" in picture.title


def test_an_erased_qr_code_is_drawn_and_said_to_be_unreadable() -> None:
    registered, _ = BUNDLE.read_registration()
    weights, place = with_code("key12", read_any(BUNDLE.model))
    erased = np.random.default_rng(1).random(weights["conv3.weight"].shape) < 0.1
    picture = pictures_of({**weights, "conv3.weight": erased}, replace(registered, qr=place))[-1]
    assert "cannot be decoded" in picture.alt


def test_a_suspect_without_registered_layers_has_no_pictures() -> None:
    registered, _ = BUNDLE.read_registration()
    place = {"layer": "conv3.weight", "row": 0, "column": 0, "version": 1, "error": "L", "pattern": 0}
    assert pictures_of({"other": np.ones((3, 3))}, replace(registered, qr=place)) == []


def test_verify_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "fixture")
    path = tmp_path / "page.html"
    assert run(["verify", str(BUNDLE.model), "--signed", str(BUNDLE.folder), "--html", str(path)]) == 0
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(path.read_text(encoding="utf-8"))
    (heading,) = root.iter("h1")
    assert "MATCH" in "".join(heading.itertext())
    assert len(list(root.iter("img"))) == 2


def test_a_complaint_about_a_strangers_file_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "fixture")
    path = tmp_path / "a\x1b[2J\u202e.safetensors"
    path.write_bytes(b"no tensors")
    assert run(["verify", str(path), "--signed", str(BUNDLE.folder)]) == 2
    said = capsys.readouterr().err
    assert not {"\x1b", "\u202e"} & set(said)
    assert r"a\x1b[2J\u202e.safetensors" in said
