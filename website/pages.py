"""``python -m website.pages OUT``: the Markdown pages that MkDocs makes the site of.

The pages of ``docs/`` and the README with their links turned to where pages stand on the site, and the catalogue: an
index with filters, a page per card, what was measured, and licences.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import formwright
from formwright.catalog.cards import read_cards
from formwright.catalog.claim import RUNGS
from formwright.catalog.results import read_results
from formwright.catalog.search import entries
from formwright.catalog.vocabulary import MECHANISMS, SUBJECTS, subject_of
from formwright.cli.listing import listed
from formwright.measurement.budget import format_count

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
#: Where what does not lie in ``docs/`` stands on the site.
PLACES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/README.md": "pages.md",
    "src/formwright/catalog/cards": "catalog/index.md",
}
#: Below the first paragraph of the landing page.
BUTTONS = """
[Start](#try-it){ .md-button .md-button--primary }
[The catalogue](catalog/index.md){ .md-button }
[Which technique?](guides/survey-faster-lighter.md){ .md-button }
"""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def write_pages(out: Path) -> list[Path]:
    """Write all pages, pictures and assets into the folder ``out``, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    places = {**PLACES, **dict(_below_docs())}
    for source, place in places.items():
        path, target = ROOT / source, out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(translated(path.read_text(encoding="utf-8"), source, places), encoding="utf-8")
        elif path.is_file():
            shutil.copyfile(path, target)
    shutil.copytree(HERE / "assets", out / "assets")
    for name, text in reference_pages().items():
        (out / "reference" / name).write_text(text, encoding="utf-8")
    for name, text in catalog_pages().items():
        (out / "catalog").mkdir(exist_ok=True)
        (out / "catalog" / name).write_text(text, encoding="utf-8")
    return sorted(path for path in out.rglob("*") if path.is_file())


def _below_docs() -> Iterator[tuple[str, str]]:
    docs = ROOT / "docs"
    for path in [*docs.rglob("*.md"), *docs.glob("images/*")]:
        place = path.relative_to(docs)
        if place.parts[0] not in ("site", "README.md"):
            yield f"docs/{place.as_posix()}", place.as_posix()


def translated(text: str, source: str, places: Mapping[str, str]) -> str:
    """The Markdown of the page ``source`` with links to where their targets stand on the site.

    Links to files that are no pages become plain text. In guides, names of cards become links to them.
    """
    home = PurePosixPath(places[source]).parent

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        known = os.path.normpath(PurePosixPath(source).parent / path)
        if known not in places:
            return label
        return f"{picture}[{label}]({os.path.relpath(places[known], home)}{'#' + anchor if anchor else ''})"

    def prose(part: str) -> str:
        part = _LINK.sub(link, part)
        if home.name == "guides":
            part = re.sub(r"(?<!\[)`([a-z0-9-]+)`(?!\])", _card_link, part)
        return part

    text = "".join(part if index % 2 else prose(part) for index, part in enumerate(_FENCE.split(text)))
    if source == "README.md":
        text = re.sub(r"^<!-- .*? -->\n", "", text, flags=re.MULTILINE)
        return text.replace("\n![", f"{BUTTONS}\n![", 1)
    return text


def _card_link(match: re.Match[str]) -> str:
    return f"[{match[0]}](../catalog/{match[1]}.md)" if match[1] in read_cards() else match[0]


def reference_pages() -> dict[str, str]:
    """Name and Markdown of the pages that are made of docstrings; MkDocs replaces the lines with ``:::``."""
    public = [f"{formwright._PUBLIC[name]}.{name}" for name in sorted(formwright._PUBLIC, key=str.lower)]
    pages = {
        "python.md": ("In Python", "What `import formwright` offers.", public),
        "token-mixers.md": (
            "Token mixers",
            "Parts that mix tokens, `(batch, *grid, channels)` to the same; build them by name with `build_part`.",
            _modules("formwright.nn.token_mixers"),
        ),
        "functional.md": (
            "Functions",
            "The mathematics of the parts, as functions without weights.",
            _modules("formwright.nn.functional"),
        ),
    }
    return {
        name: f"# {title}\n\n{lead}\n\n" + "\n\n".join(f"::: {one}" for one in objects) + "\n"
        for name, (title, lead, objects) in pages.items()
    }


def _modules(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return sorted(f"{package}.{module.name}" for module in pkgutil.iter_modules(path))


def catalog_pages() -> dict[str, str]:
    """Name and Markdown of the pages of the catalogue."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": _markdown, "count": format_count}
    everything = entries()
    facts: dict[str, Any] = {
        "entries": everything,
        "results": read_results()[0],
        "rungs": list(RUNGS.values()),
        "subjects": SUBJECTS,
        "mechanisms": MECHANISMS,
        "groups": {
            subject: [one for one in everything if subject_of(one.card.tasks[0]) == subject] for subject in SUBJECTS
        },
    }
    names = ("index.md", "measured.md", "licences.md")
    pages = {name: environment.get_template(f"{name}.j2").render(facts) for name in names}
    guides = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/guides").glob("*.md"))}
    models = listed()
    for entry in everything:
        card = entry.card
        pages[f"{card.id}.md"] = environment.get_template("card.md.j2").render(
            facts,
            card=card,
            standing=entry.standing,
            recorded=read_results()[0].get(card.id),
            models=[one for one in models if card.family is not None and one.family == card.family],
            guides={
                name: text.partition("\n")[0].removeprefix("# ")
                for name, text in guides.items()
                if f"`{card.id}`" in text
            },
        )
    return pages


def _markdown(text: str) -> str:
    """Plain text in which nothing means anything to Markdown or HTML."""
    return re.sub(r"[^\w\s.,:;/()%+'-]|_", lambda match: f"&#{ord(match[0])};", text)


def main() -> int:
    out = Path(sys.argv[1])
    print(f"{len(write_pages(out))} files in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
