"""Pages in a real browser: they draw without scripts or network, and nothing is wider than a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest
from PIL import Image

from tests.report.examples import FILES, HOSTILE, make_case, make_judgement, make_result, make_suite, make_verdict
from ticketguard.report.html import judgement_page, suite_page, verdict_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
# Chromium's own numbers: the value of prefers-color-scheme.
SCHEMES = {"dark": 0, "light": 1}
# Chromium opens no window narrower than 500 pixels, so pages are measured in a frame; its script is not the page's.
FRAME = """<!DOCTYPE html><title>frame</title><body>
<iframe width="{width}" height="{height}" style="border:0" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
  const view = document.querySelector("iframe").contentWindow, page = view.document;
  const wide = [...page.querySelectorAll("body *")].filter(item =>
    !item.closest(".scroll, pre, svg") && item.getBoundingClientRect().right > view.innerWidth + 1);
  const small = [...page.querySelectorAll("p, td, th, li, dd, dt, span, figcaption")].filter(item =>
    parseFloat(view.getComputedStyle(item).fontSize) < 12.5);
  const width = page.documentElement.scrollWidth;
  document.body.dataset.measured = JSON.stringify([view.innerWidth, width, wide.length, small.length]);
}});</script></body>"""
SMUGGLED = '<script>document.body.dataset.ran = "yes"</script><p onclick="1">words</p></body>'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
]


def browse(page: Path, folder: Path, scheme: str, size: tuple[int, int], *actions: str) -> str:
    """Run the browser on a local file with a profile of its own; what it printed."""
    command = [
        str(BROWSER),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--window-size={size[0]},{size[1]}",
        *actions,
        page.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def page_of(kind: str) -> str:
    hostile = make_verdict(supplied_by=HOSTILE, notes=("x" * 300, HOSTILE))
    name = "a-very-long-name-without-a-single-space" * 8
    if kind == "suite":
        return suite_page(make_suite(), machine={"processor": "y" * 200})
    if kind == "verdict":
        return verdict_page(hostile, suspect=name)
    judge = ("ef" * 32, "2026-11-28T01:00:00Z")
    return judgement_page(make_judgement(hostile), make_case(), suspect=name, judge=judge, files=FILES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["verdict", "judgement", "suite"])
def test_nothing_is_wider_than_the_window_and_nothing_too_small(kind: str, size: str, tmp_path: Path) -> None:
    width, height = SIZES[size]
    page = tmp_path / "frame.html"
    page.write_text(FRAME.format(width=width, height=height, page=escape(page_of(kind))), encoding="utf-8")
    shown = browse(page, tmp_path, "light", (1400, 1000), "--dump-dom")
    assert f'data-measured="[{width},{width},0,0]"' in shown


def test_the_page_runs_no_script_even_when_one_is_smuggled_in(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of("verdict").replace("</body>", SMUGGLED), encoding="utf-8")
    shown = browse(page, tmp_path, "light", SIZES["desktop"], "--dump-dom")
    assert "words</p>" in shown
    assert "data-ran=" not in shown


def measured(page: str, width: int, script: str, folder: Path) -> list[float]:
    """What `script` (an expression over the document `page`) gives for the page in a frame of that width."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<!DOCTYPE html><body><iframe width="{width}" height="900" style="border:0" srcdoc="{escape(page)}"></iframe>'
        '<script>addEventListener("load", () => { const page = document.querySelector("iframe").contentWindow.document;'
        f"document.body.dataset.measured = JSON.stringify({script}); }});</script></body>",
        encoding="utf-8",
    )
    shown = browse(frame, folder, "light", (1400, 1000), "--dump-dom")
    found = re.search('data-measured="([^"]*)"', shown)
    assert found, shown[-500:]
    return [float(value) for value in json.loads(unescape(found.group(1)))]


def wide_suite() -> str:
    """A suite with names, numbers and reasons as long as real ones."""
    names = ("prune-magnitude+dummy-clique", "input-jpeg", "licensee-copy")
    results = [make_result(name, 0.3, bits, 97.0, seed=10) for name in names for bits in (15_000.5, 30.0, None)]
    results += [make_result("other-owner", 1.0, 5.5, 97.5, control=True)]
    results = [replace(item, images=50_000, unit="share of the remaining weights that are pruned") for item in results]
    results = [replace(item, reason="every test is at chance: " + "a long reason " * 12) for item in results]
    return suite_page(replace(make_suite(), results=(*make_suite().results, *results)), machine={"cores": "2"})


def test_all_columns_of_a_suite_fit_a_thousand_pixels(tmp_path: Path) -> None:
    script = '[...page.querySelectorAll(".scroll")].map(item => item.scrollWidth - item.clientWidth)'
    beyond = measured(wide_suite(), 1000, script, tmp_path)
    assert len(beyond) == 3
    assert max(beyond) <= 0
    rows = '[...page.querySelectorAll(".cells tbody tr:not(.why)")].map(item => item.offsetHeight)'
    assert max(measured(wide_suite(), 1000, rows, tmp_path)) < 60, "a cell's row is one line, or two for a long name"


def test_a_phone_shows_name_evidence_and_matches_of_every_test(tmp_path: Path) -> None:
    verdict = make_verdict(15_234.5, leaves=0)
    longest = replace(verdict.evidence[1], test="squared-magnitude", view="turned", scope="leaf 63")
    page = verdict_page(replace(verdict, evidence=(longest, *verdict.evidence)), suspect="s")
    script = '[...page.querySelectorAll(".tests tr")].map(row => row.children[3].getBoundingClientRect().right)'
    assert max(measured(page, 400, script, tmp_path)) <= 400


@pytest.mark.parametrize("kind", ["verdict", "judgement", "suite"])
def test_nothing_runs_over_the_edge_of_a_printed_page(kind: str, tmp_path: Path) -> None:
    # What is for paper alone, on a screen as wide as A4 between its margins.
    page = (wide_suite() if kind == "suite" else page_of(kind)).replace("@media print", "@media all")
    script = """[...page.querySelectorAll("body *")].filter(item => !item.closest("pre, svg")).map(
        item => item.getBoundingClientRect().right)"""
    assert max(measured(page, 703, script, tmp_path)) <= 704


def test_a_long_table_begins_on_the_first_printed_page(tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here: apt-get install poppler-utils")
    results = [make_result(f"attack-{number}", 0.1, 500.0, 97.0) for number in range(80)]
    page, paper = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(suite_page(replace(make_suite(), results=tuple(results))), encoding="utf-8")
    browse(page, tmp_path, "light", SIZES["desktop"], f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    command = ["pdftotext", "-f", "1", "-l", "1", str(paper), "-"]
    first = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Price of removal" in first
    assert first.count("attack-") > 20


@pytest.mark.parametrize("kind", ["verdict", "judgement", "suite"])
def test_light_and_dark_are_drawn(kind: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(kind), encoding="utf-8")
    # A folder to look at the pictures in: TICKETGUARD_SCREENSHOTS=/tmp/shots pytest -m slow tests/report
    folder = Path(os.environ.get("TICKETGUARD_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    for size, (width, height) in SIZES.items():
        grounds = {}
        for scheme in SCHEMES:
            shot = folder / f"{kind}-{size}-{scheme}.png"
            browse(page, tmp_path, scheme, (width, height), f"--screenshot={shot}")
            with Image.open(shot) as picture:
                assert picture.size == (width, height)
                colours = picture.convert("RGB").getcolors(1 << 24)
                assert len(colours) > 50, "an empty page"
                grounds[scheme] = max(colours)[1]
        assert sum(grounds["light"]) > 600
        assert sum(grounds["dark"]) < 150
