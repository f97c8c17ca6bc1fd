"""The site as it is built, and as a browser shows it."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import formwright
from formwright.catalog.cards import read_cards
from formwright.catalog.search import Filters, search
from tests.website.browser import PROGRAM, Browser
from website import pages

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as MkDocs builds it; every warning is an error."""
    if not all(map(importlib.util.find_spec, ("material", "mkdocstrings_handlers"))):
        pytest.skip("MkDocs Material and mkdocstrings are not installed")
    folder = tmp_path_factory.mktemp("site")
    pages.write_pages(folder / "pages")
    settings = (ROOT / "website/mkdocs.yml").read_text()
    settings = settings.replace("../build/website", "pages").replace("../docs/site", "html")
    for name in ("hooks.py", "docstrings.py", "../src"):
        settings = settings.replace(f"[{name}]", f"[{(ROOT / 'website' / name).resolve()}]")
    (folder / "mkdocs.yml").write_text(settings)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(folder / "mkdocs.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("there is no Chromium here")
    with Browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


class Page(HTMLParser):
    """Addresses and anchors of a page, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.anchors |= {name for name in (facts.get("id"), facts.get("name")) if name}
        if tag == "a" and facts.get("href"):
            self.links.append(str(facts["href"]))
        if tag in ("link", "script", "img", "iframe"):
            self.loaded += [str(facts[name]) for name in ("href", "src") if facts.get(name)]


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    found = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    dead = []
    for path, page in found.items():
        assert not [one for one in page.loaded if re.match(r"\w+:|//", one)], path
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            place, anchor = urldefrag(link)
            target = (path.parent / unquote(place)).resolve() if place else path
            whole = target / "index.html" if target.is_dir() else target
            if not whole.exists() or (anchor and "=" not in anchor and anchor not in found[whole].anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead
    assert {f"{name}.html" for name in read_cards()} <= {path.name for path in (site / "catalog").iterdir()}


@pytest.mark.parametrize("page", ["index.html", "catalog/index.html", "catalog/mamba.html", "how-to/measure.html"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_ask_nobody_else_fit_the_screen_and_do_not_complain(
    browser: Browser, address: str, page: str, width: int
) -> None:
    browser.open(f"{address}/{page}", width)
    browser.wait("!!document.querySelector('.md-search__input')")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    assert browser.requests
    assert not [one for one in browser.requests if not one.startswith((address, "data:", "blob:"))]
    assert not browser.complaints


#: Texts whose colour stands out from what is behind it by less than 4.5 to 1, or 3 to 1 where they are large.
FAINT = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((value, i) => a * value + (1 - a) * under[i]);
  const light = (colour) => colour.map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => node ? over(parts(getComputedStyle(node).backgroundColor), ground(node.parentElement))
    : [255, 255, 255];
  const faint = [];
  for (const node of document.querySelectorAll("article *")) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!text || !node.offsetParent || node.closest(".headerlink, option, pre")) continue;
    const style = getComputedStyle(node), behind = ground(node);
    const [dark, bright] = [light(over(parts(style.color), behind)), light(behind)].sort((a, b) => a - b);
    if ((bright + 0.05) / (dark + 0.05) < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
      faint.push(node.tagName + "." + node.className + ": " + node.textContent.slice(0, 40));
  }
  return [...new Set(faint)];
})()"""
#: Headings that are more than one level below the one before.
JUMPS = """[...document.querySelectorAll("article :is(h1, h2, h3, h4)")].map((node) => +node.tagName[1])
  .filter((level, i, levels) => i && level > levels[i - 1] + 1)"""


@pytest.mark.parametrize("page", ["index.html", "catalog/index.html", "catalog/pre-rmsnorm.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_and_headings_are_in_order(browser: Browser, address: str, page: str, scheme: str) -> None:
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(f"{address}/{page}")
    assert browser.ask("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    assert browser.ask(FAINT) == []
    assert browser.ask(JUMPS) == []
    unnamed = "[...document.querySelectorAll('article input, article select')].filter((field) => !field.labels.length)"
    assert browser.ask(f"{unnamed}.length") == 0


def test_the_search_finds_a_card(browser: Browser, address: str) -> None:
    browser.open(f"{address}/index.html")
    browser.ask("document.querySelector('.md-search__input').focus()")
    browser.type("MemoryFormer")
    browser.wait("!!document.querySelector('.md-search-result__link')")
    browser.wait(
        "[...document.querySelectorAll('.md-search-result__link')].some(a => a.href.includes('/memoryformer.html'))"
    )


SHOWN = """[...document.querySelectorAll('.fw-list > li')].filter((row) => row.offsetParent)
  .map((row) => row.querySelector('a').getAttribute('href'))"""


def test_a_filter_narrows_as_the_command_does(browser: Browser, address: str) -> None:
    browser.open(f"{address}/catalog/index.html")
    assert len(browser.ask(SHOWN)) == len(read_cards())
    browser.open(f"{address}/catalog/index.html#task=forecasting&mechanism=attention")
    expected = {f"{one.entry.card.id}.html" for one in search(None, Filters(task="forecasting", mechanism="attention"))}
    assert set(browser.ask(SHOWN)) == expected
    assert browser.ask("document.getElementById('fw-count').value").startswith(f"{len(expected)} of ")


def test_words_are_typed_and_all_is_shown_again_by_keyboard(browser: Browser, address: str) -> None:
    browser.open(f"{address}/catalog/index.html")
    browser.ask("document.querySelector('[name=words]').focus()")
    browser.type("poolformer")
    browser.wait(f"{SHOWN}.length < 20")
    assert "poolformer.html" in browser.ask(SHOWN)
    assert browser.ask("location.hash") == "#words=poolformer"
    browser.type(" zebra")
    browser.wait("document.getElementById('fw-count').value.startsWith('No system fits')")
    for _ in range(4):
        browser.press("Tab", 9)
    assert browser.ask("document.activeElement.type") == "reset"
    browser.press(" ", 32)
    browser.wait(f"{SHOWN}.length === {len(read_cards())}")


def test_links_to_what_is_no_page_become_text() -> None:
    places = {"docs/a/one.md": "a/one.md", "docs/b.md": "b.md"}
    text = "[b](../b.md#x), [code](../../src/b.py), [out](https://example.org)\n```\n[b](../b.md)\n```\n"
    turned = pages.translated(text, "docs/a/one.md", places)
    assert turned == "[b](../b.md#x), code, [out](https://example.org)\n```\n[b](../b.md)\n```\n"


def test_guides_lead_to_cards() -> None:
    turned = pages.translated("`mamba` or `flattened`", "docs/guides/g.md", {"docs/guides/g.md": "guides/g.md"})
    assert turned == "[`mamba`](../catalog/mamba.md) or `flattened`"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = (site / "reference/python.html").read_text(encoding="utf-8")
    assert not [name for name, home in formwright._PUBLIC.items() if f'id="{home}.{name}"' not in text]
    assert not re.search(r":(?:func|class|meth|data|attr|mod):|<p>&gt;&gt;&gt;", text)


def test_a_card_says_what_was_recorded_and_what_was_not() -> None:
    written = pages.catalog_pages()
    assert "holds" in written["poolformer.md"]
    assert "formwright verify" not in written["tnt.md"]
    assert "Not built here yet." in written["tnt.md"]
    assert "<thing>" not in pages._markdown("a <thing> of `code` and *stars*")


def test_stale_results_are_no_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = pages.entries()
    stale = [replace(entry, standing=replace(entry.standing, stale=True)) for entry in fresh]
    monkeypatch.setattr(pages, "entries", lambda: stale)
    index = pages.catalog_pages()["index.md"]
    assert {entry.standing.rung for entry in fresh} > {"equal"}
    assert set(re.findall('data-rung="([a-z]+)"', index)) == {"stale", "none", "guide"}
    assert "equal (stale)" in index
