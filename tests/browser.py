"""Looks at a report with headless Chromium, over the DevTools protocol through a pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # the browser opens only our own file, and as root there is no sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PHONE, DESKTOP = 390, 1280
TIMEOUT = 120.0
SERIOUS = ("error", "warning", "assert")

# Everything that is wrong with the page itself, as a list of lines.
INSPECT = """
(async () => {
  const problems = [];
  for (const image of document.images) {
    const name = `image "${image.alt.slice(0, 60)}"`;
    await image.decode().catch(() => problems.push(`${name}: not decoded`));
    if (!image.naturalWidth) problems.push(`${name}: empty`);
    if (!image.alt) problems.push(`${name}: no alternative text`);
  }
  const seen = new Set();
  for (const {id} of document.querySelectorAll("[id]")) {
    if (seen.has(id)) problems.push(`id used twice: ${id}`);
    seen.add(id);
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    const target = decodeURIComponent(link.hash.slice(1));
    if (!seen.has(target)) problems.push(`link leads nowhere: #${target}`);
  }
  return problems;
})()
"""
OVERFLOW = """
(() => {
  const page = document.documentElement, problems = [];
  if (page.scrollWidth <= page.clientWidth) return problems;
  const scrolls = node => node && (/auto|scroll|hidden/.test(getComputedStyle(node).overflowX)
                                   || scrolls(node.parentElement));
  const wide = [...document.body.querySelectorAll("*")].filter(node =>
    node.getBoundingClientRect().right > page.clientWidth + 1 && !scrolls(node.parentElement));
  const names = wide.slice(0, 3).map(node => `<${node.localName} class="${node.className}">`);
  return [`${page.clientWidth} px wide, but the page needs ${page.scrollWidth}: ${names}`];
})()
"""
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))"


def find_browser() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One open page, driven through the pipe of its browser."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout
        self.into: IO[bytes] = process.stdin
        self.out: IO[bytes] = process.stdout
        self.deadline = time.monotonic() + TIMEOUT
        self.pending = b""
        self.last = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its result; note the events that come before it."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.into.write(json.dumps(message).encode() + b"\0")
        self.into.flush()
        while (answer := self._receive()).get("id") != self.last:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.pending:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([self.out], [], [], left)[0]:
                raise TimeoutError(f"the browser gave no answer within {TIMEOUT:.0f} s")
            chunk = os.read(self.out.fileno(), 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self.pending += chunk
        line, self.pending = self.pending.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        answer = self.call("Page.navigate", url=path.resolve().as_uri())
        if "errorText" in answer:
            raise RuntimeError(f"{path}: {answer['errorText']}")
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")


@contextmanager
def open_page() -> Iterator[Page]:
    """Start a browser with a fresh profile; yield its page; end it."""
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError(f"no Chromium found (looked for {', '.join(NAMES)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads commands from descriptor 3 and writes answers to 4.
        shell = ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh"]
        process = subprocess.Popen(
            [*shell, browser, *OPTIONS, f"--user-data-dir={profile}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            page = Page(process)
            yield page
            page.session = None
            page.call("Browser.close")
            process.wait(timeout=20)
        finally:
            process.kill()
            process.communicate()


def check_report(path: Path) -> list[str]:
    """Open a report and return everything that is wrong with it, one line a problem.

    Checked: errors and warnings in the console, requests beyond the file itself, decoding and
    alternative texts of images, unique ids, links within the page and to files beside it, and
    horizontal overflow on a phone and on a desktop.
    """
    with open_page() as page:
        page.resize(PHONE)
        page.open(path)
        problems: list[str] = page.evaluate(INSPECT)
        problems += page.evaluate(OVERFLOW)
        page.resize(DESKTOP)
        problems += page.evaluate(OVERFLOW)
        problems += _broken_links(path, page.evaluate(LINKS))
        problems += [line for event in page.events for line in _complaints(event, path)]
    return problems


def _broken_links(path: Path, links: list[str]) -> Iterator[str]:
    for link in dict.fromkeys(links):
        parts = urlsplit(link)
        if not parts.scheme and parts.path and not (path.parent / unquote(parts.path)).is_file():
            yield f"link leads nowhere: {link}"


def _complaints(event: Mapping[str, Any], path: Path) -> Iterator[str]:
    parameters = event.get("params", {})
    match event["method"]:
        case "Runtime.consoleAPICalled" if parameters["type"] in SERIOUS:
            texts = [str(item.get("value")) for item in parameters["args"]]
            yield f"console: {parameters['type']}: {' '.join(texts)}"
        case "Runtime.exceptionThrown":
            yield f"console: {parameters['exceptionDetails']['text']}"
        case "Log.entryAdded" if parameters["entry"]["level"] in SERIOUS:
            yield f"console: {parameters['entry']['level']}: {parameters['entry']['text']}"
        case "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith("data:") and url != path.resolve().as_uri():
                yield f"loads {url}"
