"""Headless Chromium through its driver's own protocol (W3C WebDriver), without a library between.

As a program it takes the screenshot of the example that stands in docs/operating.md:

    python -m tests.real.browser docs/status.png
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import trio

from mirrorwitness.mirror.health import HealthTerms
from mirrorwitness.mirror.snapshot import read_snapshot
from mirrorwitness.server.page import render_status
from tests.fakes.status_example import fill
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Browser", "has_browser", "open_browser"]

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-lcd-text",  # coloured edges of letters double the size of a screenshot
)
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
_EXAMPLE_TIME: Final = datetime(2026, 9, 17, 14, 5, 9, tzinfo=UTC)


def has_browser() -> bool:
    """Whether scripts/real/install-browser has run."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    """One browser with one window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        _ask("POST", f"{self._session}/url", {"url": url})

    @property
    def url(self) -> str:
        """Where the window is."""
        return str(_ask("GET", f"{self._session}/url"))

    @property
    def title(self) -> str:
        """What the window is called."""
        return str(_ask("GET", f"{self._session}/title"))

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, as its inspector would."""
        return _ask("POST", f"{self._session}/execute/sync", {"script": f"return {script}", "args": []})

    def click(self, selector: str) -> None:
        """Click on the first element of a CSS selector."""
        found = _ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        _ask("POST", f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def devtools(self, command: str, **parameters: object) -> Any:
        """Send a command of Chromium's own protocol."""
        return _ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last call: ``browser`` (its console) or ``performance`` (its requests)."""
        found: list[dict[str, Any]] = _ask("POST", f"{self._session}/se/log", {"type": kind})
        return found

    def requests(self) -> list[str]:
        """Return the addresses on a network that were asked since the last call; the browser's own pages are none."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
            and urlsplit(message["params"]["request"]["url"]).scheme not in {"chrome", "chrome-untrusted", "data"}
        ]

    def screenshot(self) -> bytes:
        """Return the window as PNG."""
        return base64.b64decode(_ask("GET", f"{self._session}/screenshot"))


@contextmanager
def open_browser(*, width: int = 1000, height: int = 1290) -> Iterator[Browser]:
    """Open a browser with a profile of its own for the length of a block."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory() as profile:
        try:
            address = f"http://127.0.0.1:{_find_port(driver)}"
            arguments = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
            wishes = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            made = _ask("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wishes}})
            session = f"{address}/session/{made['sessionId']}"
            try:
                yield Browser(session)
            finally:
                _ask("DELETE", session)
        finally:
            driver.terminate()
            driver.wait(timeout=20)
            if driver.stdout is not None:
                driver.stdout.close()


def _find_port(driver: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + 30
    while driver.stdout is not None and time.monotonic() < deadline:
        line = driver.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rpartition(" ")[2])
    raise RuntimeError("the browser's driver did not start")


def _ask(method: str, url: str, body: object = None) -> Any:
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError(url)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.load(answer)["value"]


async def _example_page() -> bytes:
    storage = MemoryStorage()
    await fill(storage, now=_EXAMPLE_TIME)
    terms = HealthTerms(saved_within=6 * 3600, lag_most=86_400)
    snapshot = await read_snapshot(storage, at=_EXAMPLE_TIME, allowed=4_500_000, terms=terms, notes=20)
    return render_status(snapshot)


def main(target: str) -> None:
    """Take the screenshot of the example."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page = Path(folder) / "status.html"
        page.write_bytes(trio.run(_example_page))
        browser.open(page.as_uri())
        height = browser.run("document.documentElement.scrollHeight")
        browser.devtools(
            "Emulation.setDeviceMetricsOverride", width=1000, height=height, deviceScaleFactor=1, mobile=False
        )
        Path(target).write_bytes(browser.screenshot())
    # A page has few colours; a picture of it with a palette has a third of the size.
    subprocess.run(["pngquant", "--force", "--speed=1", "--output", target, "64", target], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
