"""Looks at a report with the machine's own Chromium or Chrome, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Error, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--no-sandbox",  # the browser opens only our own file, and as root there is no sandbox
    "--disable-gpu",
    "--disable-quic",
)
PHONE, DESKTOP, WIDE, HEIGHT = 390, 1280, 1920, 900  # CSS pixels
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TIMEOUT = 120_000  # milliseconds
SERIOUS = ("error", "warning", "assert")

# Everything that is wrong with the page itself, as a list of lines.
INSPECT = """
(async () => {
  const problems = [];
  for (const image of document.images) {
    const name = `image "${image.alt.slice(0, 60)}"`;
    image.loading = "eager";  // or one that the screen does not show would never be decoded
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
# What is folded is not looked at otherwise, nor the details of a network of the atlas.
UNFOLD = """
document.querySelectorAll("details").forEach(details => { details.open = true; });
document.querySelector(".sheet button")?.click();
"""
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))"


def find_browser() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_page(scripts: bool = True) -> Iterator[Page]:
    """Start a browser with a fresh profile; yield its page; end it. Skip the test without one.

    `scripts` is whether pages may run theirs.
    """
    browser = find_browser()
    if browser is None:
        pytest.skip(
            "no Chromium or Chrome, so no report was looked at; "
            "to have one (Debian, Ubuntu): apt-get install chromium"
        )
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(
            executable_path=browser, args=OPTIONS, headless=True, timeout=TIMEOUT
        )
        page = window.new_page(
            viewport={"width": PHONE, "height": HEIGHT}, java_script_enabled=scripts
        )
        page.set_default_timeout(TIMEOUT)
        yield page
        window.close()


def check_report(path: Path) -> list[str]:
    """Open a report and return everything that is wrong with it, one line a problem.

    Checked: errors and warnings in the console, requests beyond the file itself, decoding and
    alternative texts of images, unique ids, links within the page and to files beside it, and
    horizontal overflow on a phone and on a desktop.
    """
    with open_page() as page:
        heard = visit(page, path)
        problems: list[str] = page.evaluate(INSPECT)
        problems += page.evaluate(OVERFLOW)
        page.set_viewport_size({"width": DESKTOP, "height": HEIGHT})
        problems += page.evaluate(OVERFLOW)
        problems += _broken_links(path, page.evaluate(LINKS))
    return problems + heard


def visit(page: Page, path: Path) -> list[str]:
    """Open a report; return the list into which the page's complaints and requests come.

    A violation of its content-security policy is an error in the console.
    """
    address = path.resolve().as_uri()
    heard: list[str] = []

    def hear_message(message: ConsoleMessage) -> None:
        if message.type in SERIOUS:
            heard.append(f"console: {message.type}: {message.text}")

    def hear_exception(error: Error) -> None:
        heard.append(f"console: Uncaught {error.name}: {error.message}")

    def hear_request(request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")) and request.url != address:
            heard.append(f"loads {request.url}")

    page.on("console", hear_message)
    page.on("pageerror", hear_exception)
    page.on("request", hear_request)
    page.goto(address)
    return heard


def check_accessibility(path: Path) -> list[str]:
    """Open a report and return what axe-core finds, one line for each element that breaks a rule.

    Checked: every rule that axe-core has switched on, in the light and in the dark colour scheme,
    on a phone, a desktop and a wide screen, with everything unfolded. Skip the test without it.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="no axe-playwright-python, so the report was not checked with axe-core; "
        "to have it: make setup",
    ).Axe()
    found = []
    with open_page() as page:
        page.goto(path.resolve().as_uri())
        page.evaluate(UNFOLD)
        for scheme, width in product(SCHEMES, (PHONE, DESKTOP, WIDE)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": HEIGHT})
            found += [
                f"{scheme}, {width} px: {rule['id']}: {node['target']}: {node['failureSummary']}"
                for rule in axe.run(page).response["violations"]
                for node in rule["nodes"]
            ]
    return found


def _broken_links(path: Path, links: list[str]) -> Iterator[str]:
    for link in dict.fromkeys(links):
        parts = urlsplit(link)
        if not parts.scheme and parts.path and not (path.parent / unquote(parts.path)).is_file():
            yield f"link leads nowhere: {link}"
