"""Licences of weights: the Hub's identifiers, and what stands on a card for a licence that the Hub has none for. Imports no torch."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from zoo.errors import UserError

LICENCE_HELP = "Licence of the weights: an SPDX identifier such as MIT, or one of the Hub's such as openrail."
LICENCE_LINK_HELP = "Where the text of a licence stands that neither SPDX nor the Hub knows: an address, or a file of the repository."
OTHER = "other"
# The Hub's whole list (https://huggingface.co/docs/hub/repositories-licenses), which it holds cards to.
HUB_LICENCES = frozenset(
    [
        "afl-3.0",
        "agpl-3.0",
        "apache-2.0",
        "apple-amlr",
        "apple-ascl",
        "artistic-2.0",
        "bigcode-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "bsl-1.0",
        "c-uda",
        "cc",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "cdla-sharing-1.0",
        "creativeml-openrail-m",
        "deepfloyd-if-license",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "etalab-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "fair-noncommercial-research-license",
        "gemma",
        "gfdl",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "grok2-community",
        "h-research",
        "intel-research",
        "isc",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "lgpl-lr",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "lppl-1.3c",
        "mit",
        "mpl-2.0",
        "ms-pl",
        "ncsa",
        "odbl",
        "odc-by",
        "ofl-1.1",
        "openmdw-1.0",
        "openrail",
        "openrail++",
        "osl-3.0",
        "other",
        "pddl",
        "postgresql",
        "unknown",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)
# SPDX identifiers, in lower case and without what `_SUFFIX` takes off, that the Hub calls otherwise.
_BY_SPDX = {
    "bsd-1-clause": "bsd",
    "bsd-4-clause": "bsd",
    "c-uda-1.0": "c-uda",
    "gfdl-1.1": "gfdl",
    "gfdl-1.2": "gfdl",
    "gfdl-1.3": "gfdl",
    "gpl-1.0": "gpl",
    "lgpl-2.0": "lgpl",
    "lgpllr": "lgpl-lr",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
# Who may choose a later version has the same licence, and so has a font whose name is reserved.
_SUFFIX = re.compile(r"(-only|-or-later|\+|-no-rfn|-rfn|-invariants|-no-invariants)+$")
# As people write them: `Apache License 2.0`, `CC BY-NC 4.0`, `GPLv3`, `MIT License`.
_WORDS = re.compile(r"\b(the|licen[cs]e|public|version|or later|only)\b")
_LONG_NAMES = {
    "gnu-affero-general": "agpl",
    "gnu-lesser-general": "lgpl",
    "gnu-general": "gpl",
    "mozilla": "mpl",
    "creative-commons-zero": "cc0",
}
_VERSION = re.compile(r"-?v?(\d+(?:\.\d+)?)$")
_SPDX_LIST = "https://spdx.org/licenses/"


@dataclass(frozen=True)
class HubLicence:
    """What a card's front matter says of a licence.

    Attributes
    ----------
    identifier
        One of :data:`HUB_LICENCES`; None: nobody stated a licence.
    name, link
        Of a licence that the Hub has no identifier for, which is then ``"other"``; the link may be unknown.
    """

    identifier: str | None = None
    name: str | None = None
    link: str | None = None


def hub_licence(licence: str | None, link: str | None = None) -> HubLicence:
    """What the Hub calls a licence.

    Parameters
    ----------
    licence
        An SPDX identifier or expression, an identifier of the Hub, or a name. Empty, as earlier versions accepted it: none is stated.
    link
        Where its text stands; without it, SPDX's page of a licence that SPDX knows.
    """
    if licence is None or not licence.strip():
        return HubLicence()
    identifier = _identifier(licence)
    if identifier is not None and identifier != OTHER:
        return HubLicence(identifier)
    return HubLicence(OTHER, None if identifier == OTHER else " ".join(licence.split()), link or _spdx_page(licence))


def check_stated(licence: str | None, link: str | None = None) -> None:
    """Raise UserError for a licence that nobody could find by what is stated of it: an empty one, or one known by a name alone."""
    if licence is None:
        if link is not None:
            raise UserError("--licence-link is where the text of --licence stands; give --licence too")
        return
    if not licence.strip() or not licence.isprintable():
        raise UserError("--licence is empty or holds what cannot be printed; give an SPDX identifier such as MIT, or leave it out")
    if link is not None and re.fullmatch(r"(https?://\S+|[\w.-]+)", link) is None:
        raise UserError(f"--licence-link is an address (https://...) or the name of a file in the repository, not '{link}'")
    found = hub_licence(licence, link)
    if found.identifier == OTHER and found.link is None:
        text = licence.strip().lower()
        near = sorted(name for name in HUB_LICENCES if name.startswith(f"{text}-"))[-1:] or difflib.get_close_matches(text, HUB_LICENCES, 1)
        hint = f" (did you mean '{near[0]}'?)" if near and near[0] != OTHER else ""
        raise UserError(
            f"'{licence}' is neither an SPDX identifier nor one of the Hub's licences{hint}; say where its text stands: --licence-link URL"
        )


def _identifier(licence: str) -> str | None:
    """The Hub's identifier of a licence; None where it has none."""
    for text in (licence.strip().lower(), _as_identifier(licence)):
        plain = _SUFFIX.sub("", text)
        for name in (text, plain, _BY_SPDX.get(plain, "")):
            if name in HUB_LICENCES:
                return name
    return None


def _as_identifier(licence: str) -> str:
    """A name in the form of an identifier: in lower case, without words that say nothing, a hyphen before the version."""
    text = _WORDS.sub(" ", re.sub(r"[\s,()\"'_]+", " ", licence.lower()))
    text = "-".join(text.replace("-", " ").split())
    for long, short in _LONG_NAMES.items():
        text = text.replace(long, short)
    version = _VERSION.search(text)
    if version is None:
        return text
    number = version[1] if "." in version[1] or text.startswith("bsd") else f"{version[1]}.0"
    return f"{text[: version.start()]}-{number}"


def _spdx_page(licence: str) -> str | None:
    """SPDX's page of a licence that it has an identifier for, its list for an expression of several; None for other names."""
    try:
        expression = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return None
    if "LicenseRef-" in expression:
        return None
    return _SPDX_LIST if " " in expression else f"{_SPDX_LIST}{expression.removesuffix('+')}.html"
