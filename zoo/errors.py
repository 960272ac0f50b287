"""The one exception for what a user can mend, and what its sentence is made of; errors of the system and of libraries as such sentences.

Imports no torch."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence

# The line by which torch's loader says that a worker's trace follows.
_HANDED_OVER = "Original Traceback (most recent call last):"
# How torch (on CPUs and GPUs), CUDA's libraries, faiss and C++ say that memory could not be had.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "alloc fail", "bad_alloc")
# How torch's zip writer, NumPy and safetensors say that the system did not take a file's bytes.
_NOT_TAKEN = ("PytorchStreamWriter failed", "unexpected pos", " requested and ", "Error while serializing: I")
# How torch says that it lost another process of a group, and that a process which decodes is gone.
_GROUP_LOST, _LOADER_LOST = ("gloo/", "NCCL", "c10d", "Broken pipe", "process group"), "DataLoader worker (pid"
_PLACE_IN_SOURCE = re.compile(r"^\[[^]]*\]\s*")
LESS_MEMORY = "close other programs, or use a machine with more"
# Control characters but for tab and line break, and halves of characters that no encoding has.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A user's mistake: its text is one sentence that says what is wrong, where, and what to do.

    The commands print it without a stack trace and leave with exit status 2 (:func:`zoo.console.run`). Names out of a file may stand in it,
    so what is no printable character (a line break, a terminal's escape code) is spelled out.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str) -> str:
    """``text`` on one line, with a backslash and a code for each character that cannot be printed."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def drawable(text: str) -> str:
    """:func:`printable`, for a figure of matplotlib, to which a dollar sign would begin a formula."""
    return printable(text).replace("$", r"\$")


def printable_lines(text: str) -> str:
    """``text`` with its line breaks and tabs, and all else that cannot be printed as :func:`printable` spells it."""
    return text if text.isprintable() else _UNPRINTABLE.sub(lambda found: printable(found[0]), text)


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or its type's name where it has none.

    Of an error that a process which decodes handed over, with its trace as the text, it is the last line: what was wrong there.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[-1].strip() if _HANDED_OVER in lines else lines[0]


def root_cause(error: BaseException) -> str:
    """:func:`first_line` of the error that started the chain which ``error`` ends."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return first_line(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine, or a GPU, had no memory left: Python's own error, torch's for either, those of CUDA's libraries and of faiss."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def not_written(error: BaseException) -> str | None:
    """Why the system did not take what was written, in few words; None for errors of another kind."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or isinstance(error, RuntimeError):
        text = str(error)
        if any(sign in text for sign in _NOT_TAKEN):
            return "No space left on device" if "No space left" in text else "the system did not take all of it; is its disk full?"
        return first_line(error) if isinstance(error, OSError) else None
    return None


def as_user_error(error: BaseException, less_memory: str = LESS_MEMORY) -> UserError | None:
    """What the machine, its disks or other processes did wrong, as a sentence; None for a mistake of this toolkit.

    Parameters
    ----------
    error
        Whatever was raised; a UserError stays what it is.
    less_memory
        What to do where memory ran out: the option to lower.
    """
    if isinstance(error, UserError):
        return error
    if is_out_of_memory(error):
        detail = first_line(error)
        return UserError(f"there is not enough memory{'' if detail == 'MemoryError' else f' ({detail})'}; {less_memory}")
    if isinstance(error, RecursionError):
        return UserError("something that was read is nested too deeply; is the file what it should be? (--debug shows where)")
    if isinstance(error, UnicodeError):
        return UserError(f"a text cannot be read or written ({first_line(error)}); is the file UTF-8? (--debug shows which)")
    if isinstance(error, RuntimeError) and _LOADER_LOST in str(error):
        return UserError(f"a process that decodes images ended ({first_line(error)}); mostly the memory ran out: use fewer workers")
    by_name = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GROUP_LOST)
    if by_name or type(error).__module__ == "torch.distributed":
        # Without the place in gloo's source, and without its advice.
        detail = _PLACE_IN_SOURCE.sub("", first_line(error)).split(". ")[0]
        return UserError(f"the other processes of this group cannot be reached any more ({detail}); start all of them again")
    reason = not_written(error)
    if isinstance(error, OSError):
        files = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return UserError(f"the system refused {f'{files}' if files else 'to read or write'} ({reason}){_advice(error.errno)}")
    return None if reason is None else UserError(f"a file cannot be written ({reason}){_advice(errno.ENOSPC)}")


def _advice(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space, and run the command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "; use a place that you may write to, or change its permissions"
    if number in (errno.EMFILE, errno.ENFILE):
        return "; raise the limit of open files (`ulimit -n`), or use fewer workers"
    return ""


def did_you_mean(name: str, known: Iterable[str], count: int = 1) -> str:
    """``"; did you mean 'NEAREST'?"``, to append where ``name`` is said to be unknown; empty where none of the known names is near."""
    near = nearest(name, known, count)
    return f"; did you mean {' or '.join(repr(text) for text in near)}?" if near else ""


def nearest(name: str, known: Iterable[str], count: int = 1, cutoff: float = 0.5) -> list[str]:
    """The known names that are nearest to ``name``, nearest first; neither capitals nor ``-`` and ``_`` are differences."""
    plain: dict[str, list[str]] = {}
    for text in known:
        plain.setdefault(_plain(text), []).append(text)
    found = difflib.get_close_matches(_plain(name), [*plain], count, cutoff=cutoff)
    return [text for one in found for text in plain[one]][:count]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def some_of(names: Sequence[str], most: int = 4) -> str:
    """The first few of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def listed(complaints: Mapping[str, Sequence[str]]) -> str:
    """``"2 missing (a, b); 1 of another shape (c)"``: names by what is wrong with them; empty where there are none."""
    return "; ".join(f"{len(names)} {what} ({some_of(names)})" for what, names in complaints.items() if names)
