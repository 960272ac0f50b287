"""Of the documents' site: links by their pages' titles, files of the repository by name, and docstrings without Sphinx's roles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)#]*)(?:#[^)]*)?\)")
_PAGE = re.compile(r"\[([\w/-]+\.md)\]\((\1)(#[^)]*)?\)")
_ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|exc):\s*<code>~?")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside the site become their names, those that are named after a page's file get its title."""
    folder = Path(page.file.abs_src_path).parent

    def name(found: re.Match[str]) -> str:
        text, path = found[1], found[2]
        return text if path in text else f"{text} (`{path}`)"

    def title(found: re.Match[str]) -> str:
        heading = (folder / found[2]).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        return f"[{heading}]({found[2]}{found[3] or ''})"

    return _PAGE.sub(title, _OUTSIDE.sub(name, markdown))


def on_page_content(html: str, **_: Any) -> str:
    """``:func:`name``` of a docstring is shown as the name."""
    return _ROLE.sub("<code>", html)
