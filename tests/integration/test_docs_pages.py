"""The documents: every page is in the site's navigation, links lead somewhere, tables of options are those of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from pretrain.methods import METHODS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(_pages(nav)) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def _anchor(heading: str) -> str:
    """The name that a heading gets in the page's address."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda found: found[1] or "", heading).lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain).strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = page if not place else (page.parent / place).resolve()
        if not target.exists():
            missing.append(link)
        elif anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            missing += [link] if anchor not in map(_anchor, headings) else []
    assert missing == []


@pytest.mark.parametrize("name", ["moco", "simclr", "byol", "simsiam"])
def test_the_options_of_a_method_are_those_of_its_table(name: str) -> None:
    text = (DOCS / "contrastive.md").read_text(encoding="utf-8")
    (section,) = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.lower().startswith(f"{name}\n")]
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))
    settings = {field.name: field.default for field in fields(METHODS[name].Settings)}
    assert told.keys() == settings.keys()
    for key, default in settings.items():
        if default is None:
            # A rule, another value, or nothing: in words.
            assert not re.fullmatch(r"[\d.]+|true|false", told[key]), key
        else:
            assert told[key] == (str(default).lower() if isinstance(default, bool) else f"{default}"), key
