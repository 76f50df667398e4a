"""The status page in a real browser, from a real `serve` process, over a mirror whose upstream is hostile."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.storage.address import open_storage
from tests.fakes.status_example import fill
from tests.real.browser import Browser, has_browser, open_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not has_browser(), reason="needs scripts/real/install-browser"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A mirror that is served; what upstream said of itself attacks whoever shows it."""

    async def write() -> None:
        async with open_storage(f"file:{tmp_path}/mirror") as storage:
            await fill(storage, now=datetime.now(UTC), is_hostile=True)
            await storage.put("about/mirror.json", b"{}")

    trio.run(write)
    command = [sys.executable, "-m", "mirrorwitness", "serve", "--storage", "file:mirror", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


def colour(browser: Browser, selector: str, of: str = "backgroundColor") -> str:
    return str(browser.run(f"getComputedStyle(document.querySelector('{selector}')).{of}"))


def test_a_person_sees_the_page(server: str, browser: Browser) -> None:
    """Styled, drawn, complete; nothing was asked but the page, and the browser complains of nothing."""
    browser.open(f"{server}/-/status")
    assert browser.title == "working: mirrorwitness"
    assert browser.requests() == [f"{server}/-/status"]
    assert [entry["message"] for entry in browser.log("browser")] == []
    assert colour(browser, "section") == "rgb(255, 255, 255)"  # the sheet was applied: its digest is right
    assert browser.run("document.querySelectorAll('svg.lag path.line').length") >= 3
    height = browser.run("document.querySelector('svg.lag').getBoundingClientRect().height")
    assert 80 < height < 400
    assert browser.run("document.querySelectorAll('.list tbody tr').length") == 4


def test_attack_markup_from_upstream_is_words_in_a_browser(server: str, browser: Browser) -> None:
    """No element but ours, no script ran, no picture was asked for, and the words can be read."""
    browser.open(f"{server}/-/status")
    assert browser.run("document.querySelectorAll('script, img, [onerror], [style], iframe, form').length") == 0
    assert "<script>alert(1)</script>" in browser.run("document.body.innerText")
    assert browser.requests() == [f"{server}/-/status"]


def test_it_follows_the_readers_taste_and_fits_a_telephone(server: str, browser: Browser) -> None:
    """Dark where that is preferred; at 360 pixels nothing sticks out but the table, which scrolls in its own box."""
    browser.open(f"{server}/-/status")
    light = colour(browser, "body")
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert colour(browser, "body") != light
    assert colour(browser, "body", "color") == "rgb(230, 233, 236)"
    browser.devtools("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_its_links_lead_on(server: str, browser: Browser) -> None:
    """The sandbox of the page's policy keeps scripts out, not readers in."""
    for path in ("about.json", "metrics", "readyz"):
        browser.open(f"{server}/-/status")
        browser.click(f"footer a[href='{path}']")
        assert browser.url == f"{server}/-/{path}"
