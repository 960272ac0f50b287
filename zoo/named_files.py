"""YAML files that are found by name in a folder, or by path: recipes, configs. Free of torch, for quick commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UserError, did_you_mean


@dataclass(frozen=True)
class NamedFiles:
    """The YAML files of one kind that come with the toolkit. A name that begins with ``base_`` is for others to build on, and not offered.

    Attributes
    ----------
    kind
        What one of them is called, e.g. ``"recipe"``.
    folder
        Where they lie.
    listing
        The command that lists them, for messages.
    """

    kind: str
    folder: Path
    listing: str

    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.yaml") if not path.stem.startswith("base_"))

    def summary(self, name: str) -> str:
        """The first comment line of one of them."""
        return (self.folder / f"{name}.yaml").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("#").strip()

    def lines(self) -> list[str]:
        """A line for each: its name and its summary."""
        names = self.names()
        width = max(map(len, names))
        return [f"{name:<{width}}  {self.summary(name)}" for name in names]

    def listed(self) -> list[dict[str, str]]:
        """The same as records: ``name`` and ``summary``."""
        return [{"name": name, "summary": self.summary(name)} for name in self.names()]

    def find(self, name_or_path: str) -> Path:
        """The file of a name, or of a path that ends in ``.yaml`` or ``.yml``.

        Raises UserError, with the nearest name, where there is none.
        """
        path = Path(name_or_path)
        if path.suffix in (".yaml", ".yml"):
            if not path.is_file():
                raise UserError(f"there is no {self.kind} file {path}")
            return path
        known = self.names()
        if name_or_path not in known:
            raise UserError(
                f"there is no {self.kind} '{name_or_path}'{did_you_mean(name_or_path, known)} (`{self.listing}` shows them all, and a path "
                "to a .yaml file works too)"
            )
        return self.folder / f"{name_or_path}.yaml"
