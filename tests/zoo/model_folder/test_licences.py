"""Licences as the Hub names them: its whole list, SPDX's names for the same, and a link for what it has no name for."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from zoo.errors import UserError
from zoo.model_folder.card import make_card
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.importing import import_checkpoint
from zoo.model_folder.licences import HUB_LICENCES, HubLicence, check_stated, hub_licence

SAME = {
    "MIT": "mit",
    "MIT License": "mit",
    "Apache-2.0": "apache-2.0",
    "Apache License, Version 2.0": "apache-2.0",
    "AGPL-3.0-only": "agpl-3.0",
    "AGPL-3.0-or-later": "agpl-3.0",
    "GNU Affero General Public License v3.0": "agpl-3.0",
    "GPL-3.0+": "gpl-3.0",
    "GPLv3": "gpl-3.0",
    "GNU General Public License v2.0 only": "gpl-2.0",
    "GPL-1.0-only": "gpl",
    "LGPL-2.1-or-later": "lgpl-2.1",
    "LGPL-3.0-only": "lgpl-3.0",
    "LGPL-2.0-only": "lgpl",
    "MPL-2.0": "mpl-2.0",
    "Mozilla Public License 2.0": "mpl-2.0",
    "CC-BY-NC-SA-3.0": "cc-by-nc-sa-3.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
    "CC0-1.0": "cc0-1.0",
    "openrail": "openrail",
    "OpenRAIL++": "openrail++",
    "bsd": "bsd",
    "BSD-4-Clause": "bsd",
    "BSD 3-Clause": "bsd-3-clause",
    "BSD-3-Clause-Clear": "bsd-3-clause-clear",
    "ODbL-1.0": "odbl",
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "C-UDA-1.0": "c-uda",
    "GFDL-1.3-no-invariants-or-later": "gfdl",
    "OFL-1.1-RFN": "ofl-1.1",
    "LGPLLR": "lgpl-lr",
    "PostgreSQL": "postgresql",
    "Zlib": "zlib",
    "etalab-2.0": "etalab-2.0",
}


@pytest.mark.parametrize(("licence", "identifier"), [*SAME.items(), *((one, one) for one in sorted(HUB_LICENCES - {"other"}))])
def test_a_licence_of_the_hub_is_named_as_the_hub_names_it(licence: str, identifier: str) -> None:
    assert hub_licence(licence) == HubLicence(identifier)
    check_stated(licence)


@pytest.mark.parametrize(
    ("licence", "link"),
    [
        ("0BSD", "https://spdx.org/licenses/0BSD.html"),
        ("cc-by-sa-2.0", "https://spdx.org/licenses/CC-BY-SA-2.0.html"),
        ("BUSL-1.1", "https://spdx.org/licenses/BUSL-1.1.html"),
        ("MIT OR Apache-2.0", "https://spdx.org/licenses/"),
    ],
)
def test_a_licence_of_spdx_that_the_hub_lacks_has_spdx_s_page(licence: str, link: str) -> None:
    assert hub_licence(licence) == HubLicence("other", licence, link)
    check_stated(licence)


def test_a_licence_that_nobody_knows_needs_a_link(make_manifest, tmp_path) -> None:
    with pytest.raises(UserError, match=r"'Our-Own' is neither an SPDX identifier .* say where its text stands: --licence-link URL"):
        check_stated("Our-Own")
    with pytest.raises(UserError, match=r"'AGPL' is neither .*did you mean 'agpl-3\.0'\?\); say"):
        check_stated("AGPL")
    with pytest.raises(UserError, match="'other' is neither"):
        check_stated("other")
    for link in ("https://lab.example/licence", "LICENSE"):
        check_stated("Our-Own", link)
        data = ModelCard(make_card(make_manifest(licence="Our-Own", licence_link=link))).data
        assert (data.license, data.license_name, data.license_link) == ("other", "Our-Own", link)
    for link in ("javascript:alert(1)", "see our page", "../LICENSE"):
        with pytest.raises(UserError, match="--licence-link is an address"):
            check_stated("Our-Own", link)
    with pytest.raises(UserError, match="give --licence too"):
        check_stated(None, "https://lab.example/licence")


@pytest.mark.parametrize("licence", ["", "  ", "MIT\n"])
def test_an_empty_licence_is_refused_before_anything_is_written(licence, tmp_path, make_backbone, make_manifest) -> None:
    with pytest.raises(UserError, match="--licence is empty or holds what cannot be printed"):
        import_checkpoint(tmp_path / "none.pth", tmp_path / "model", licence=licence)
    if not licence.strip():
        with pytest.raises(UserError, match=r"the licence of .* is empty"):
            write_zoo_model(tmp_path / "model", make_backbone(), make_manifest(licence=licence))
        assert hub_licence(licence) == HubLicence()  # a folder of an earlier version
        assert "| Licence | not stated |" in make_card(make_manifest(licence=licence))
    assert list(tmp_path.iterdir()) == []
