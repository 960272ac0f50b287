"""Pictures: nearest neighbours of sample images, and images of clusters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from evaluation.report.at_hand import AtHand, Missing
from evaluation.report.details import positions, table
from evaluation.report.groups import Group, Model
from evaluation.report.thumbnails import thumbnail
from zoo.data import Images
from zoo.errors import UserError
from zoo.results import Result


@dataclass(frozen=True)
class Picture:
    """An image: its address, its label ("" without labels), and whether the label is the one it is compared with."""

    address: str
    label: str
    same: bool = True


@dataclass
class Query:
    """A test image, and its nearest training images by model, the nearest first."""

    picture: Picture
    neighbours: list[tuple[Model, list[Picture]]] = field(default_factory=list)


@dataclass(frozen=True)
class Cluster:
    """A cluster: how many images it has, the images nearest to its centroid, and what most of these are."""

    number: int
    size: int
    pictures: tuple[Picture, ...]
    most: str


@dataclass(frozen=True)
class Montage:
    """The largest clusters of a model's features."""

    model: Model
    k: int
    clusters: tuple[Cluster, ...]


Absent = list[tuple[str, Missing]]


def neighbour_queries(group: Group, at_hand: AtHand) -> tuple[list[Query], Absent]:
    """The test images that kNN results list, each with its neighbours by all models; of a model with several results, by the first."""
    queries: dict[int, Query] = {}
    absent: Absent = []
    addresses: dict[tuple[str, int], str] = {}
    for row in group.rows:
        result = _first_with(group, row, "neighbours")
        if result is None:
            continue
        train, test = at_hand.images(result, "train"), at_hand.images(result, "test")
        if isinstance(train, Missing) or isinstance(test, Missing):
            absent.append((row.label, train if isinstance(train, Missing) else test))  # type: ignore[arg-type]
            continue
        known = table(result, "neighbours")
        asked = positions(known.get("test"), len(test))
        nearest = known.get("train")
        if asked is None or not isinstance(nearest, list) or len(nearest) != len(asked):
            continue
        for position, listed in zip(asked, nearest, strict=True):
            shown = positions(listed, len(train))
            if shown is None:
                continue
            label = _label(test, result.data.level, position)
            if position not in queries:
                queries[position] = Query(Picture(_address(addresses, "test", test, position), label))
            pictures = []
            for neighbour in shown:
                other = _label(train, result.data.level, neighbour)
                pictures.append(Picture(_address(addresses, "train", train, neighbour), other, other == label))
            queries[position].neighbours.append((row, pictures))
    return [queries[position] for position in sorted(queries)], absent


def montages(group: Group, at_hand: AtHand) -> tuple[list[Montage], Absent]:
    """The clusters that clustering results list."""
    found: list[Montage] = []
    absent: Absent = []
    addresses: dict[tuple[str, int], str] = {}
    for row in group.rows:
        result = _first_with(group, row, "montage")
        if result is None:
            continue
        known = table(result, "montage")
        role = next(iter(result.data.splits))
        images = at_hand.images(result, role)
        if isinstance(images, Missing):
            absent.append((row.label, images))
            continue
        clusters, k = known.get("clusters"), known.get("k")
        if not isinstance(clusters, list) or not isinstance(k, int):
            continue
        made = (_cluster(cluster, images, role, result.data.level, addresses) for cluster in clusters if isinstance(cluster, dict))
        found.append(Montage(row, k, tuple(one for one in made if one is not None)))
    return found, absent


def _cluster(known: dict[str, object], images: Images, role: str, level: str, addresses: dict[tuple[str, int], str]) -> Cluster | None:
    shown = positions(known.get("images"), len(images))
    number, size = known.get("cluster"), known.get("size")
    if not shown or not isinstance(number, int) or not isinstance(size, int):
        return None
    labels = [_label(images, level, position) for position in shown]
    name, count = Counter(labels).most_common(1)[0]
    if count == 1 and len(shown) > 1:  # as many classes as images
        name = ""
    pictures = tuple(
        Picture(_address(addresses, role, images, position), label, label == name or not name)
        for position, label in zip(shown, labels, strict=True)
    )
    return Cluster(number, size, pictures, f"{count} of {len(shown)} shown: {name}" if name else "")


def _first_with(group: Group, row: Model, detail: str) -> Result | None:
    """The model's first result, by column and newest first, that has this detail."""
    for column in group.columns:
        cell = group.cell(row, column)
        for entry in () if cell is None else cell.entries:
            if table(entry.result, detail):
                return entry.result
    return None


def _label(images: Images, level: str, position: int) -> str:
    known = images.levels.get(level)
    return "" if known is None else known.classes[known.labels[position]]


def _address(addresses: dict[tuple[str, int], str], role: str, images: Images, position: int) -> str:
    """The address of an image, which several models may show; empty where it cannot be decoded."""
    if (role, position) not in addresses:
        try:
            addresses[role, position] = thumbnail(images, position)
        except UserError:
            addresses[role, position] = ""
    return addresses[role, position]
