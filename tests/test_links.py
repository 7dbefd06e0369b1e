"""Links in README.md, CONTRIBUTING.md, CHANGELOG.md and docs/*.md lead to files and headings that exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def pages_of(root: Path) -> list[Path]:
    return [*(root / name for name in TOP), *sorted((root / "docs").glob("*.md"))]


@cache
def parsed(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def targets(page: Path) -> list[str]:
    """Where the links and images of a page lead; what stands in code is none."""
    inline = [child for token in parsed(page) for child in token.children or ()]
    found = [child.attrGet("href" if child.type == "link_open" else "src") for child in inline]
    return [str(target) for target in found if target is not None]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of headings: lower case, no punctuation, blanks as hyphens, a number behind repeats."""
    tokens = parsed(page)
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for opening, heading in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(child.content for child in heading.children or ())
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(root: Path) -> Iterator[str]:
    """`page: link` of every link within the project that leads nowhere."""
    for page in pages_of(root):
        for target in targets(page):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            inside = file.is_relative_to(root.resolve()) and file.exists()
            if not inside or (parts.fragment and unquote(parts.fragment) not in anchors(file)):
                yield f"{page.relative_to(root)}: {target}"


def unlinked_pages(root: Path) -> list[str]:
    """Pages of docs/ that the README does not link."""
    linked = {unquote(urlsplit(target).path) for target in targets(root / "README.md")}
    pages = [page.relative_to(root).as_posix() for page in pages_of(root) if page.parent.name == "docs"]
    return [page for page in pages if page not in linked]


def test_every_link_leads_somewhere() -> None:
    assert list(broken_links(ROOT)) == []


def test_the_readme_links_every_page() -> None:
    assert unlinked_pages(ROOT) == []


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        ("docs/page.md", False),
        ("docs/page.md#a-heading-with-code", False),
        ("docs/page.md#twice-1", False),
        ("#own", False),
        ("https://example.com/nowhere#at-all", False),
        ("docs/missing.md", True),
        ("docs/page.md#missing", True),
        ("docs/page.md#twice-2", True),
        ("#missing", True),
        ("../outside.md", True),
    ],
)
def test_broken_links_are_found(tmp_path: Path, link: str, broken: bool) -> None:
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "outside.md").write_text("# Outside\n")
    for name in TOP:
        (root / name).write_text("")
    (root / "README.md").write_text(f"# Own\n\n| a |\n|---|\n| [there]({link}) |\n\n`[code](nowhere.md)`\n")
    (root / "docs" / "page.md").write_text("# A heading: with `code`!\n\n## Twice\n\n## Twice\n")
    assert list(broken_links(root)) == ([f"README.md: {link}"] if broken else [])


def test_pages_that_nothing_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[one](docs/one.md#top)\n")
    for name in ("one.md", "two.md"):
        (tmp_path / "docs" / name).write_text("# Top\n")
    assert unlinked_pages(tmp_path) == ["docs/two.md"]
