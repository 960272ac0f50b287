"""What a command can say of its data at no further cost: counts, what was left out and why, and what an earlier look found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zoo.data.base import Data, Images
from zoo.data.inspection.findings import Finding, general
from zoo.data.inspection.kept import look_file
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.data.inspection.look import Look

# Findings that a line names; `zoo data` shows them all.
_NAMED = 3


def known_of(data: Data, splits: Iterable[Images]) -> dict[str, Any]:
    """What is known of the splits that are used, for a result's ``details["data"]``; no image is decoded for it.

    Returns
    -------
    ``splits``: name -> ``images`` (those that are used), ``classes`` and ``left_out`` (reason -> how many). ``not_used``: reason -> how
    many files of the data set are images and are not read. ``look``: the date and the findings of the last ``zoo data`` of these data that
    still hold, or None where there was none.
    """
    used = {images.split: _of_split(images) for images in splits}
    not_used = Counter(general(one.reason) for one in data.unused)
    return {"splits": used, "not_used": dict(not_used.most_common()), "look": holding(data.spec, set(used))}


def holding(spec: str, splits: set[str] | None = None) -> dict[str, Any] | None:
    """The findings of the last look at a data set that still hold: those about splits whose files have not changed.

    Parameters
    ----------
    splits
        Findings about other splits are left out; None: all.
    """
    if not look_file(spec).is_file():
        return None
    from zoo.data.inspection.look import kept_look, subject_of

    try:
        look = kept_look(spec)
        if look is None:
            return None
        states = subject_of(spec).states
    except UserError:
        # Images of a program's own have no name by which they could be opened again.
        return None
    findings = [finding for finding in look.findings if _holds(finding, look, states) and (splits is None or splits >= set(finding.splits))]
    if not findings and states != look.states:
        return None
    told = [
        {"kind": finding.kind, "problem": finding.problem, "count": finding.count, "splits": list(finding.splits), "text": finding.text}
        for finding in findings
    ]
    return {"date": look.looked, "findings": told}


def known_lines(known: dict[str, Any], spec: str) -> list[str]:
    """A line or two for the user."""
    parts = []
    for name, facts in known["splits"].items():
        classes = f" of {facts['classes']:,} classes" if facts["classes"] else ""
        parts.append(f"{name} {facts['images']:,} images{classes}" + _reasons(facts["left_out"], "left out"))
    line = f"data {spec}: {', '.join(parts)}"
    if known["not_used"]:
        line += _reasons(known["not_used"], "files that are images are not used", "; ")
    return [line, *look_lines(known["look"])]


def look_lines(look: dict[str, Any] | None) -> list[str]:
    """What an earlier look says, in one line; none where there was none."""
    if look is None:
        return []
    problems = [finding for finding in look["findings"] if finding["problem"]]
    day = look["date"].partition("T")[0]
    if not problems:
        return [f"`zoo data` of {day} found nothing that is wrong"]
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return [f"`zoo data` of {day} found: {'; '.join(finding['text'] for finding in problems[:_NAMED])}{more}"]


def _holds(finding: Finding, look: Look, states: dict[str, str]) -> bool:
    about = finding.splits or tuple(look.states)
    return all(name in states and states[name] == look.states.get(name) for name in about)


def _of_split(images: Images) -> dict[str, Any]:
    reasons = Counter(map(general, images.skipped_reasons)) if images.skipped_reasons else Counter({"unknown reason": len(images.skipped)})
    classes = images.multilabel.classes if images.multilabel is not None else images.classes
    left_out = {reason: count for reason, count in reasons.most_common() if count}
    return {"images": len(images), "classes": len(classes), "left_out": left_out}


def _reasons(reasons: dict[str, int], what: str, before: str = ", ") -> str:
    if not reasons:
        return ""
    return f"{before}{sum(reasons.values()):,} {what} ({', '.join(f'{count:,}: {reason}' for reason, count in reasons.items())})"
