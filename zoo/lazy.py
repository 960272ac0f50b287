"""Names that a package exports and imports only when they are asked for: torch takes seconds, and quick commands do without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DISTRIBUTION = "backbone-loop"
_HERE = Path(__file__).resolve().parents[1]


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for ``package`` whose exported names lie in the modules ``homes``: name -> module, below the package.

    ``__version__`` is the distribution's.
    """

    def get(name: str) -> Any:
        if name == "__version__":
            return version(DISTRIBUTION)
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get


def check_not_hidden(package: str) -> None:
    """Raise ImportError where Python finds something else by the name of one of this toolkit's packages, such as a folder of the user's.

    Asked where another of our packages needs it: Python itself would only say that one of its modules is missing.
    """
    spec = find_spec(package)
    assert spec is not None  # ours is installed, so there is something of the name
    places = [*(spec.submodule_search_locations or [spec.origin or ""])]
    if all(Path(place).resolve() != _HERE / package for place in places):
        raise ImportError(f"{places[0]} hides {DISTRIBUTION}'s package '{package}'; rename it, or start Python in another folder")
