"""Text of strangers on a card: whatever a field holds is shown, and none of it becomes a link, a picture, a table cell or HTML."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from zoo.errors import printable
from zoo.model_folder.agreement import disagreements
from zoo.model_folder.card import RESULT_COLUMNS, make_card
from zoo.model_folder.claims import add_results
from zoo.model_folder.manifest import read_manifest
from zoo.model_folder.markdown import block, code, escaped, plain, table, unescaped

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "**bold** _em_ ~~gone~~",
    "a | b | c",
    "```\n# head\n```",
    "`code` ``more``",
    "x\n\n# head\n\n- item\n\n---\n",
    "&lt;b&gt; &amp;",
    "\\<b> \\| \\",
    "[a]: https://evil.example",
    "\u202egnp.exe",
    "$$x$$ \\(y\\)",
)


class Page(HTMLParser):
    """What a reader of the page sees, and which elements it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.shown += data


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", [escaped, code])
def test_a_text_is_shown_as_it_is(text: str, form) -> None:
    for around in ("{}", "A text {} here", "- {}"):
        page = Page(RENDERER.render(around.format(form(text))))
        assert set(page.tags) <= {"p", "ul", "li", "code"}
        assert around.replace("- ", "").format(plain(text)).strip() in page.shown.replace("\n", " ")
    cells = Page(RENDERER.render(table(["a", "b"], [[form(text), "1"]])))
    assert cells.tags.count("td") == 2
    assert plain(text) in cells.shown
    assert cells.addresses == []


@given(st.text(max_size=40))
def test_any_text_is_shown_and_compared_as_it_is(text: str) -> None:
    page = Page(RENDERER.render(table(["a", "b"], [[text, code(text)]])))
    assert page.tags.count("td") == 2
    assert page.shown.count(plain(text)) >= 2
    assert unescaped(escaped(text)) == unescaped(text)
    lines = Page(RENDERER.render(block(text.replace("\r", " "))))
    assert lines.tags == ["pre", "code"]


def test_a_card_of_hostile_fields_is_the_card_of_harmless_ones_with_other_words(make_manifest, make_result) -> None:
    def card(text: str) -> Page:
        result = make_result("c" * 64)
        result = replace(
            result,
            task=text,
            preset=text,
            date=text,
            data=replace(result.data, spec=text, name=text, level=text),
            headline=replace(result.headline, metric=text),
            metrics={text: result.headline.value},
            protocol={"source": text, text: [text], "changed": [text]},
        )
        source = {"url": text, "checkpoint": text, "run": text, "commit": text, "format": text, "assumed": [text], "versions": {text: text}}
        facts = {"arch": text, "method": text, "encoder": text, "data": text, "licence": text, "source": source, "created": text}
        made = make_card(make_manifest(results=(result,), recipe={text: text}, **{**facts, "name": "net.x"}))
        assert made.count("\n---\n") == 1  # the front matter ends once
        return Page(RENDERER.render(made.split("\n---\n", 1)[1]))

    def shape(page: Page) -> list[str]:
        """Where a bar stands in a word there is no span of code."""
        return [tag for tag in page.tags if tag != "code"]

    harmless = card("harmless")
    for text in HOSTILE:
        page = card(text)
        assert (shape(page), page.addresses) == (shape(harmless), harmless.addresses), text
        assert page.shown.count(plain(text)) >= 10


def test_a_card_of_strange_names_agrees_with_itself(zoo_folder, make_result) -> None:
    own = read_manifest(zoo_folder).tensors_sha256
    for number, text in enumerate(HOSTILE):
        result = make_result(own, value=40.0 + number, seed=number)
        add_results(zoo_folder, [replace(result, preset=text)])
    assert disagreements(zoo_folder, read_manifest(zoo_folder)) == []
    card = zoo_folder / "README.md"
    card.write_text(card.read_text().replace("| 40.00 |", "| 60.00 |"))
    (problem,) = disagreements(zoo_folder, read_manifest(zoo_folder))
    assert "value is 60.00, and 40.00 in zoo.json" in problem


def test_cards_of_earlier_versions_are_read(zoo_folder, make_result) -> None:
    """Only bars had a backslash then."""
    own = read_manifest(zoo_folder).tensors_sha256
    add_results(zoo_folder, [replace(make_result(own, value=44.0), task="voc|07", preset="a*b")])
    card = zoo_folder / "README.md"
    new = "| voc&#124;07 | cifar10 (10 class labels) | 1,000 (2 left out) | a&#42;b | top1_k20 | 44.00 |"
    assert new in card.read_text()
    for value in ("44.00", "45.00"):
        old = f"| voc\\|07 | cifar10 (10 class labels) | 1,000 (2 left out) | a*b | top1_k20 | {value} |"
        card.write_text(card.read_text().replace(new, old))
        new = old
        assert len(disagreements(zoo_folder, read_manifest(zoo_folder))) == (value != "44.00")
    assert len(RESULT_COLUMNS) == 7
    assert printable("x") == "x"
