"""The catalogue: which published backbones there are, what is claimed of each, where it lives and which reader loads it. Free of torch."""

from zoo.catalogue.entry import CatalogueEntry, Home, PublishedResult
from zoo.catalogue.files import find_entry, load_catalogue, user_files

__all__ = ["CatalogueEntry", "Home", "PublishedResult", "find_entry", "load_catalogue", "user_files"]
