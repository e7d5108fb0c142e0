"""The report in a real browser: everything is drawn, every link leads somewhere, nothing is cut off or fetched.

Wants Chromium or Chrome, and is skipped without. `ROBBERTJE_SCREENSHOTS=FOLDER` keeps a picture of each width.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.show.report import write_report
from tests.support.result_files import make_concluded_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WATCHER = Path(__file__).with_name("report_in_browser.js").read_text(encoding="utf-8")
# Whatever the page asks of anybody is refused and reported; its styles and pictures lie in itself.
POLICY = "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# A phone's width is less than the browser's least: the page is shown in a frame, which tells what it found.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe src="page.html" width="{width}" height="{height}"></iframe><pre id="found" hidden></pre>
<script>addEventListener("message", (event) => found.textContent = JSON.stringify(event.data))</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)} to run this test")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = ("pseudo_perplexity", "task_scores", "p_values", "claims")
    return write_report(make_concluded_run(tmp_path_factory.mktemp("browser"), pictures))


def _browse(browser: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--hide-scrollbars", f"--user-data-dir={folder / 'user'}", "--enable-logging=stderr",
        "--virtual-time-budget=20000", *options, (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _visit(browser: str, page: str, folder: Path, width: int) -> dict[str, Any]:
    """What the watcher finds on `page` (HTML) at `width` pixels, and what the browser wrote to its console."""
    watched = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}"><script>{WATCHER}</script>'
    (folder / "page.html").write_text(page.replace("<head>", watched, 1), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width, height=844), encoding="utf-8")
    visit = _browse(browser, folder, "--window-size=1400,900", "--dump-dom")
    told = re.search(r'<pre id="found"[^>]*>(.*?)</pre>', visit.stdout, flags=re.DOTALL)
    assert told and told[1], f"the page did not load: {visit.stdout[:500]} {visit.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(html.unescape(told[1]))
    return {**found, "console": re.findall(r"^.*:CONSOLE.*$", visit.stderr, flags=re.MULTILINE)}


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_is_whole_at_every_width(browser: str, report: Path, tmp_path: Path, width: int) -> None:
    found = _visit(browser, report.read_text(encoding="utf-8"), tmp_path, width)
    assert found["width"] == width
    assert found["problems"] == [] and found["console"] == [] and found["requests"] == []
    assert len(found["images"]) == 4 and all(image["alt"] and image["drawn"] for image in found["images"])
    assert len(found["links"]) >= 7
    for link in found["links"]:
        assert link["reached"] if link["inside"] else (report.parent / link["href"]).exists(), link
    assert found["overflow"] == 0 and found["wide"] == [] and found["boxes"] == 0
    if folder := os.environ.get("ROBBERTJE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(report, tmp_path / "page.html")
        (tmp_path / "frame.html").write_text(FRAME.format(width=width, height=found["height"]), encoding="utf-8")
        picture = Path(folder).resolve() / f"report-{width}.png"
        _browse(browser, tmp_path, f"--window-size={max(width, 500)},{found['height']}", f"--screenshot={picture}")
        assert picture.stat().st_size > 10_000


BROKEN = """<!DOCTYPE html><html lang="en"><head><title>x</title></head><body>
<h1 id="top">Kapot</h1><a href="#nowhere">weg</a><a href="#bottom">heen</a><img src="data:image/png;base64,AAAA">
<img src="https://example.org/x.png" alt="elders"><div style="width: 3000px">breed</div>
<script>console.error("mis"); nothing()</script><p style="height: 4000px"></p><p id="bottom">Hier</p></body></html>"""


def test_the_watcher_sees_what_is_wrong(browser: str, tmp_path: Path) -> None:
    """So that the silence above means something."""
    found = _visit(browser, BROKEN, tmp_path, 390)
    told = " ".join(found["problems"])
    assert "nothing is not defined" in told and "asked for https://example.org" in told
    assert any("mis" in line for line in found["console"])
    assert [link["reached"] for link in found["links"]] == [False, True]
    assert [image["drawn"] for image in found["images"]] == [False, False] and found["images"][0]["alt"] == ""
    assert found["overflow"] > 2000 and any("breed" in element for element in found["wide"])
