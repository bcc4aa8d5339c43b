"""The README and docs/: linked, readable in width, and made of blocks that tests run or parse."""

from __future__ import annotations

import re
import tomllib

import pytest

from benchmarks.__main__ import questions
from tests.documents import Document, all_documents
from tests.project import ROOT
from worker.bridge.messages.routes import Route

DOCUMENTS = all_documents()
WIDTH = 100
LANGUAGES = {"bash", "python", "toml", "json", "text"}
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@EACH
def test_links_lead_somewhere(document: Document) -> None:
    """Every file that is linked is there, with the heading that is linked."""
    missing = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.text):
        name, _, anchor = link.partition("#")
        target = document.path.parent / name if name else document.path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            missing.append(link)

    assert missing == []


def test_every_page_is_linked_from_the_index() -> None:
    """docs/README.md links every page of docs/, decisions included."""
    index = Document("docs/README.md")
    links = re.findall(r"\]\(([\w./-]+\.md)\)", index.text)
    linked = {(index.path.parent / link).resolve() for link in links}
    pages = {path.resolve() for path in (ROOT / "docs").glob("**/*.md")} - {index.path}

    assert {page.name for page in pages - linked} == set()


@EACH
def test_lines_are_at_most_100_wide(document: Document) -> None:
    """Every line but a table's fits into 100 columns, those of blocks included."""
    wide = [
        f"{number}: {line}"
        for number, line in enumerate(document.text.splitlines(), 1)
        if len(line) > WIDTH and not line.startswith("|")
    ]

    assert wide == []


@EACH
def test_every_block_has_a_language(document: Document) -> None:
    """A block says what it is, so that the tests that run or parse it find it."""
    assert {block.language for block in document.blocks} <= LANGUAGES


def test_routes_that_are_shown_can_be_used() -> None:
    """The routes in docs/bridge.md are routes that a worker takes."""
    shown = tomllib.loads(Document("docs/bridge.md").block("toml", "routes"))
    routes = [Route.model_validate(route) for route in shown["worker"]["routes"]]

    assert [route.is_inward for route in routes] == [False, True]


@pytest.mark.parametrize("package", ["trainer", "worker"])
def test_every_room_is_in_the_map(package: str) -> None:
    """CONTRIBUTING.md says of every room what one changes in it."""
    text = Document("CONTRIBUTING.md").text
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}

    assert {room for room in rooms if f"| `{package}/{room}/` |" not in text} == set()


def test_every_benchmark_is_listed() -> None:
    """docs/benchmarks.md lists the benchmarks that exist, with the question of each."""
    rows = re.findall(r"^\| `(\w+)` \| .*\? \|", Document("docs/benchmarks.md").text, re.MULTILINE)

    assert rows == sorted(questions())
