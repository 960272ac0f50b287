"""Where in an annotation file something stands: its line, so that a person can mend it."""

from __future__ import annotations

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element
from xml.parsers import expat

from zoo.reading.outside import open_file

# Of the annotation of one image.
_MOST_BYTES, _MOST_DEPTH, _TEXT_PIECE = 64 << 20, 100, 1 << 20


class LinedElement(Element):
    """An XML element that knows the line on which it begins."""

    line: int = 0


def read_xml(path: Path) -> LinedElement:
    """The root of an XML file.

    Raises OSError, xml.parsers.expat.ExpatError with line and column, and ValueError for entities, and for what is far too large.
    """
    parser = expat.ParserCreate()
    above: list[LinedElement] = []
    roots: list[LinedElement] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(above) >= _MOST_DEPTH:
            raise ValueError(f"more than {_MOST_DEPTH} of its elements are nested in each other")
        element = LinedElement(tag, attributes)
        element.line = parser.CurrentLineNumber
        if above:
            above[-1].append(element)
        else:
            roots.append(element)
        above.append(element)

    def text(data: str) -> None:
        if above and not len(above[-1]):
            above[-1].text = (above[-1].text or "") + data

    def stop(_tag: str) -> None:
        above.pop()

    def entity(*_declared: object) -> None:
        # A few of them, in each other, stand for gigabytes.
        raise ValueError("it declares entities, which no annotation needs")

    # Text comes in pieces, and is put together once.
    parser.buffer_text, parser.buffer_size = True, _TEXT_PIECE
    parser.EntityDeclHandler = entity
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, stop, text
    with open_file(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    parser.Parse(data, True)
    return roots[0]


class JsonPlaces:
    """Where the entries of a JSON object's lists stand.

    Parameters
    ----------
    text
        The file's, which must be a JSON object.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._breaks = [at for at, sign in enumerate(text) if sign == "\n"]
        self.entries: dict[str, list[tuple[Any, int]]] = {}
        decoder = json.JSONDecoder()
        at = self._skip(self._skip(0) + 1)
        while text[at] != "}":
            key, at = decoder.raw_decode(text, at)
            at = self._skip(self._skip(at) + 1)
            if text[at] == "[":
                found: list[tuple[Any, int]] = []
                at = self._skip(at + 1)
                while text[at] != "]":
                    value, after = decoder.raw_decode(text, at)
                    found.append((value, at))
                    at = self._skip(after)
                    at = self._skip(at + 1) if text[at] == "," else at
                self.entries[key] = found
                at += 1
            else:
                _, at = decoder.raw_decode(text, at)
            at = self._skip(at)
            at = self._skip(at + 1) if text[at] == "," else at

    def place(self, at: int) -> str:
        """``LINE``, or ``LINE:COLUMN`` where the line holds more than the entry, of a position in the text; both count from 1."""
        line = bisect_right(self._breaks, at - 1) if at else 0
        start = self._breaks[line - 1] + 1 if line else 0
        return f"{line + 1}" if not self._text[start:at].strip() else f"{line + 1}:{at - start + 1}"

    def _skip(self, at: int) -> int:
        while self._text[at] in " \t\r\n":
            at += 1
        return at
