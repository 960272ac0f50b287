"""Reading a report's page as a browser would, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"br", "hr", "img", "input", "link", "meta"}
# Elements that SVG lets close themselves.
_EMPTY = {"circle", "line", "path", "polyline", "rect"}


@dataclass
class Cell:
    """A table cell: its text, and its attributes."""

    text: str
    attributes: dict[str, str | None]


@dataclass
class Page(HTMLParser):
    """A page: an AssertionError says where its HTML is not well-formed."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    tables: list[list[list[Cell]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _in_table: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, folder: Path) -> Page:
        page = cls()
        page.feed((folder / "index.html").read_text(encoding="utf-8"))
        page.close()
        assert page._open == [], f"not closed: {page._open}"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            assert "table" not in self._open
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(Cell("", dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _EMPTY, f"<{tag}/> is no element that closes itself"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>, in {self.getpos()}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1].text += data

    def attributes(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]

    def table_with(self, *heads: str) -> list[list[str]]:
        """The first table whose heading row has these texts: its rows, each cell's words with single spaces."""
        for table in self.tables:
            rows = [[" ".join(cell.text.split()) for cell in row] for row in table]
            if all(any(head in cell for cell in rows[0]) for head in heads):
                return rows
        raise AssertionError(f"no table has the headings {heads}")
