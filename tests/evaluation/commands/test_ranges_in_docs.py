"""docs/evaluation.md says which range each number has."""

from __future__ import annotations

import re
from pathlib import Path

from evaluation.tasks.registry import TASKS


def test_the_table_of_ranges_is_that_of_the_options() -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = text.split("| option | range |", 1)[1].split("\n\n", 1)[0]
    told = {
        flag: row[1]
        for line in table.splitlines()[2:]
        for row in [line.strip("| ").split(" | ")]
        for flag in re.findall(r"`(--[a-z-]+)`", row[0])
    }
    for option in (option for task in TASKS.values() for option in task.options):
        if option.within is not None and option.flag != "--batch":
            assert told[option.flag].removesuffix(" each") == str(option.within), option.flag
    assert told["--batch"].startswith("at least 1; of fine-tuning at least 2")
