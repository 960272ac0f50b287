"""Opening a checkpoint file without running anything in it.

torch's own restricted reader (``weights_only``) makes the tensors. Before it, a scan of the file (:mod:`zoo.reading.pickle_scan`) says
which classes and functions it names, what they would be called with and how large its tensors claim to be, and a file that asks for
more than it should is refused before anything of it is called or allocated.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UserError, first_line, some_of
from zoo.reading.budget import BudgetError, check_structure
from zoo.reading.file_head import appearance, download_accident, looks_like_safetensors, read_head
from zoo.reading.outside import open_file
from zoo.reading.pickle_scan import GETATTR, PickleScan, scan_pickle, stand_in

_ZIP_HEAD = b"PK\x03\x04"
# torch's format before version 1.6: pickles one after the other (of the number that stands here, of a version, of the machine, of the
# object, of the storages' keys), then the storages.
_LEGACY_HEAD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES_BEFORE_OBJECT = 2
_TAR_MAGIC_AT = 257
# A zip of weights is stored, not compressed, and so declares about its own size.
_LARGEST_EXPANSION = 4
# What torch unpacks. A zip's directory takes about 60 bytes an entry; the largest files of weights have thousands of entries.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_DIRECTORY_BYTES = 16 << 20
# The header of safetensors: about 100 bytes a tensor.
_MOST_HEADER_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_LENGTH_BYTES = 8
_PROTOCOL = 2  # of pickles that torch's restricted reader reads; torch.save writes it unless it is told otherwise
# Names in these modules are never replaced by anything: torch's restricted reader refuses them whatever it is told.
_SYSTEM_MODULES = ("os", "posix", "nt", "sys")
_NAMES_IN_MESSAGE = 6

# What tensors are made of: torch's restricted reader allows these by itself.
_TENSOR_NAMES = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(bytearray|set|complex)"
    r"|torch(\.cuda|\.storage)?\.\w*Storage|torch\.(Size|Tensor|device|nn\.parameter\.Parameter)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.(float|bfloat|int|uint|complex|bool|double|half|long)\d*"
)
# What training scripts leave beside the weights: holders of settings, counters and paths. They are replaced by empty stand-ins.
_HARMLESS_NAMES = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|collections\.(defaultdict|deque)|typing\.Any"
    r"|builtins\.(int|float|str|bool|list|dict|tuple|bytes|range|slice|frozenset)"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|datetime\.(datetime|date|time|timedelta|timezone)"
    r"|numpy\.(dtype|ndarray|bool_|(u?int|float)\d+)|numpy\.dtypes\.\w+|numpy\.(core|_core)\.(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer)"
    r"|omegaconf\.(listconfig\.ListConfig|dictconfig\.DictConfig|base\.(ContainerMetadata|Metadata|SCMode)|nodes\.\w+Node)"
    r"|easydict\.EasyDict|addict\.addict\.Dict|yacs\.config\.CfgNode|ml_collections\.config_dict\.config_dict\.ConfigDict"
    r"|(pytorch_lightning\.utilities\.parsing|lightning_fabric\.utilities\.data|lightning\.fabric\.utilities\.data)\.AttributeDict"
    r"|mmengine\.logging\.history_buffer\.HistoryBuffer"
)
# mmengine's record of logged numbers keeps functions of its own class, which pickle writes as getattr(HistoryBuffer, "mean").
_HISTORY_BUFFER = "mmengine.logging.history_buffer.HistoryBuffer"
_SCRIPT = "__main__."  # functions of the script that wrote the file: VICReg's optimizer (LARS) keeps two of them among its settings


@dataclass(frozen=True)
class Checkpoint:
    """An open file.

    Attributes
    ----------
    path
        The file.
    content
        What it holds: dictionaries, lists, numbers, text, tensors on the CPU; tensors of a zip file are pages of the file, not memory.
    container
        ``"zip"`` (torch since 1.6), ``"legacy"`` (before) or ``"safetensors"``.
    replaced
        The names that it asked for and that inert stand-ins took the place of.
    """

    path: Path
    content: Any
    container: str
    replaced: tuple[str, ...] = ()


def open_checkpoint(path: str | Path, *, trust_pickle: bool = False, mapped: bool = True) -> Checkpoint:
    """Open a checkpoint: what ``torch.save`` wrote, or safetensors.

    Parameters
    ----------
    trust_pickle
        Read a file that names classes or functions other than the known harmless ones, with inert stand-ins in their place. Nothing in
        the file is called in this case either.
    mapped
        Leave the tensors of a zip file where they are; False: copy them, for a file that may be written while they are in use.

    Raises
    ------
    UserError
        The file is missing, a pipe, empty, a web page, a pointer, cut short, damaged, no checkpoint, larger inside than it is, asks for
        names that weights have no use for, or for more steps, memory or containers in each other than any checkpoint; nothing of it has
        been called or allocated then.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder, not a checkpoint file")
        head = read_head(path)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if accident := download_accident(head):
        raise UserError(f"{path} holds no weights: {accident}; get it again")
    try:
        if looks_like_safetensors(head, size):
            return Checkpoint(path, read_safetensors(path), "safetensors")
        if head.startswith(_ZIP_HEAD):
            stored, scan = _scan_zip(path, size)
            return _load(path, scan, "zip", trust_pickle, mmap=stored and mapped)
        if head.startswith(_LEGACY_HEAD):
            return _load(path, _scan_legacy(path, size), "legacy", trust_pickle, mmap=False)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} needs more memory than there is") from error
    except BudgetError as error:
        raise UserError(f"{path} is not read: {error}; no file of weights needs that, so nothing of it was allocated") from error
    except EOFError as error:
        raise UserError(f"{path} was cut short: it ends in the middle of a pickle; get it again") from error
    except Exception as error:  # a damaged pickle or zip can raise nearly anything
        raise UserError(f"{path} is damaged or was cut short ({first_line(error)}); get it again") from error
    raise UserError(f"{path} is no checkpoint: {_other_kind(path, head, size)}")


def _other_kind(path: Path, head: bytes, size: int) -> str:
    if path.suffix == ".safetensors":
        return "it does not begin like safetensors; it was cut short or altered, so get it again"
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "it is a tar archive; unpack it, or if torch before 0.2 wrote it, save it again with a newer one"
    if head.startswith(b"\x1f\x8b"):
        return "it is compressed with gzip; unpack it first"
    if _LEGACY_HEAD.startswith(head):
        return "it was cut short; get it again"
    if _LEGACY_HEAD[2:] in head:
        return f"it was saved with another pickle protocol than {_PROTOCOL}, which cannot be read safely; save it again without that option"
    if head.startswith(b"\x80"):
        return "it is a plain pickle (as detectron2's .pkl), not what torch.save writes; reading it would run it, so it is not read"
    if not any(head):
        return "it begins with zeros, as a download that was broken off leaves it"
    return f"it begins with {head[:8]!r}, which neither torch.save nor safetensors writes ({size} bytes)"


def _scan_zip(path: Path, size: int) -> tuple[bool, PickleScan]:
    """Whether everything is stored uncompressed, and what the pickle asks for. Checks declared sizes and checksums."""
    no_end = f"{path} was cut short: a zip archive's directory stands at its end, and there is none; get it again"
    with open_file(path) as file:
        # The last record of a zip archive: its sixth number is how long the directory is.
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if not end:
        raise UserError(no_end)
    if end[5] > _MOST_DIRECTORY_BYTES:
        raise BudgetError(f"its directory has {end[5]:,} bytes")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(no_end) from error
    with archive:
        entries = archive.infolist()
        packed = next((entry for entry in entries if entry.compress_type not in _ZIP_METHODS), None)
        if packed is not None:
            raise UserError(f"{path} is packed in a way that torch does not unpack ('{packed.filename}'); save it again")
        declared = sum(entry.file_size for entry in entries)
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if declared > size * (1 if stored else _LARGEST_EXPANSION):
            raise UserError(
                f"{path} is {size} bytes, but what is packed in it says that it is {declared}: no weights compress like that, so nothing "
                "of it was unpacked"
            )
        # torch looks names up without regard to case, and takes the first of two.
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise UserError(f"{path} is damaged: two files in it have one name; get it again")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise UserError(f"{path} is {_zip_kind(entries)}, not what torch.save writes")
        _check_sums(path, archive)
        text = archive.read(pickles[0])
        if text != _as_torch_reads(path, "data.pkl"):
            raise UserError(f"{path} is damaged: its directory and its entries do not agree; get it again")
        scan = scan_pickle(io.BytesIO(text), len(text))
        folder = pickles[0].filename.removesuffix("data.pkl")
        sizes = {entry.filename: entry.file_size for entry in entries}
    for key, wanted in scan.storages.items():
        found = sizes.get(f"{folder}data/{key}")
        if found is None or found < wanted:
            raise UserError(
                f"{path} is damaged: its index says that tensor storage '{key}' has {wanted} bytes, and "
                + ("it is not there" if found is None else f"there are {found}")
                + "; get it again"
            )
    return stored, scan


def _as_torch_reads(path: Path, name: str) -> bytes:
    """A record of the archive by torch's own reader of zips: what was looked at must be what it reads."""
    import torch

    # By an open file: torch takes only names that are UTF-8.
    with open_file(path) as file:
        return bytes(torch._C.PyTorchFileReader(file).get_record(name))


def _zip_kind(entries: list[zipfile.ZipInfo]) -> str:
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program, which is code; save its state_dict"
    if any(name.endswith(".npy") for name in names):
        return "NumPy's .npz"
    return f"a zip archive of {len(names)} files"


def _check_sums(path: Path, archive: zipfile.ZipFile) -> None:
    """Compare every entry with its checksum, in chunks: pages that are mapped later are not checked by anybody."""
    for entry in archive.infolist():
        try:
            with archive.open(entry) as file:
                while file.read(_CHUNK_BYTES):
                    pass
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise UserError(
                f"{path} is damaged: '{entry.filename}' in it does not have its checksum; get it again (or save it again, if it was saved "
                "with checksums switched off)"
            ) from error


def _scan_legacy(path: Path, size: int) -> PickleScan:
    with open_file(path) as file:
        file.seek(len(_LEGACY_HEAD))
        for _ in range(_LEGACY_PICKLES_BEFORE_OBJECT):
            scan_pickle(file, size - file.tell())
        scan = scan_pickle(file, size - file.tell())
        scan_pickle(file, size - file.tell())  # the keys
        left = size - file.tell()
    declared = sum(scan.storages.values())
    if declared > left:
        raise UserError(f"{path} was cut short: its tensors have {declared} bytes, and {max(left, 0)} are left for them; get it again")
    return scan


def _load(path: Path, scan: PickleScan, container: str, trust_pickle: bool, *, mmap: bool) -> Checkpoint:
    import torch

    if scan.protocol != _PROTOCOL:
        raise UserError(
            f"{path} was saved with pickle protocol {scan.protocol}, which cannot be read safely; save it again without that "
            f"option (torch.save then takes protocol {_PROTOCOL})"
        )
    foreign = {name: kind for name, kind in scan.names.items() if _TENSOR_NAMES.fullmatch(name) is None}
    system = sorted(name for name in foreign if name.partition(".")[0] in _SYSTEM_MODULES)
    if system:
        raise UserError(
            f"{path} asks for {some_of(system, _NAMES_IN_MESSAGE)}, to act on this machine; nothing of it was called: do not use this file"
        )
    unknown = sorted(name for name in foreign if not _harmless(name, scan))
    if unknown and not trust_pickle:
        raise UserError(
            f"{path} asks for what weights have no use for: {some_of(unknown, _NAMES_IN_MESSAGE)}; nothing of it was called. If you know "
            "what these are, --trust-pickle reads the tensors with inert stand-ins in their place (they are not called then either); else "
            "use the file of weights alone that most projects publish too"
        )
    if scan.refused:
        raise UserError(
            f"{path} has tensors that are made by {some_of(sorted(scan.refused), _NAMES_IN_MESSAGE)}, and only dense tensors of plain "
            "numbers are read; save the network's own state_dict()"
        )
    allowed: list[Any] = [(stand_in(kind), name) for name, kind in foreign.items()]
    try:
        with torch.serialization.safe_globals(allowed), contextlib.ExitStack() as opened:
            # torch maps files by names that are UTF-8; others it reads from an open file.
            plain = _is_utf8(path)
            source = path if plain else opened.enter_context(open_file(path))
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap and plain)
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged, or holds what cannot be read safely ({_torch_reason(error)})") from error
    check_structure(content)
    return Checkpoint(path, content, container, tuple(sorted(foreign)))


def _is_utf8(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _harmless(name: str, scan: PickleScan) -> bool:
    """Whether a stand-in may take the place of a name without being asked for."""
    if name == GETATTR:
        return name in scan.called and all(owner == _HISTORY_BUFFER for owner, _ in scan.attributes)
    if name.startswith(_SCRIPT):
        return name not in scan.called
    return _HARMLESS_NAMES.fullmatch(name) is not None


def _torch_reason(error: Exception) -> str:
    """What torch has to say, without its general advice."""
    reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return reason.splitlines()[0] if reason else first_line(error)


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a file of safetensors, by name. Raises UserError where it is missing, damaged or no such file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open_file(path) as file:
            header = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            size = os.fstat(file.fileno()).st_size
        if _MOST_HEADER_BYTES < header <= size:
            raise UserError(f"{path} is not read: its header has {header:,} bytes, and no file of weights needs that")
        tensors: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as error:
        reason = error.strerror or first_line(error) if isinstance(error, OSError) else first_line(error)
        what = "" if isinstance(error, OSError) else f"{appearance(path)}: "
        raise UserError(f"{path} is not a safetensors file that can be read ({what}{reason}); get it again") from error
    return tensors
