"""How much a file from outside may ask for: the refusal, and the check of what nested containers hold together."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

# Containers in each other, and items counted as often as they can be reached: far beyond any checkpoint, and far below what hurts.
MOST_DEPTH = 100
MOST_ITEMS = 20_000_000
_CONTAINERS = (dict, list, tuple, set, frozenset)


class BudgetError(pickle.UnpicklingError):
    """A file asks for more than anything of its kind needs: time, memory, or containers in each other."""


def check_structure(value: Any) -> None:
    """Raise BudgetError for containers that whoever walks through them would not come out of.

    Those are containers that hold themselves, that are nested too deep, or that hold the same ones again and again, so that a short file
    stands for 2**60 items. Each container is looked at once, without recursion.
    """
    if not isinstance(value, _CONTAINERS):
        return
    # Of each container that is done: how deep it is, and how many items can be reached from it.
    done: dict[int, tuple[int, int]] = {}
    open_: dict[int, None] = {id(value): None}
    path: list[tuple[Any, Iterator[Any], list[int]]] = [(value, iter(_inner(value)), [1, len(value)])]
    while path:
        container, inner, facts = path[-1]
        for item in inner:
            known = done.get(id(item))
            if known is None:
                if id(item) in open_:
                    raise BudgetError("a container in it holds itself")
                if len(path) >= MOST_DEPTH:
                    raise BudgetError(f"more than {MOST_DEPTH} containers in it are nested in each other")
                open_[id(item)] = None
                path.append((item, iter(_inner(item)), [1, len(item)]))
                break
            _add(facts, *known)
        else:
            path.pop()
            del open_[id(container)]
            done[id(container)] = (facts[0], facts[1])
            if path:
                _add(path[-1][2], *facts)


def _inner(container: Any) -> list[Any]:
    if isinstance(container, dict):
        return [item for pair in container.items() for item in pair if isinstance(item, _CONTAINERS)]
    return [item for item in container if isinstance(item, _CONTAINERS)]


def _add(facts: list[int], depth: int, items: int) -> None:
    facts[0] = max(facts[0], depth + 1)
    facts[1] += items
    if facts[0] > MOST_DEPTH:
        raise BudgetError(f"more than {MOST_DEPTH} containers in it are nested in each other")
    if facts[1] > MOST_ITEMS:
        raise BudgetError(f"its containers hold each other so often that they stand for more than {MOST_ITEMS:,} items")
