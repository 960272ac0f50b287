"""Which files are images: the endings that are read here, those of images that are not, and what a file's first bytes say."""

from __future__ import annotations

import threading
from functools import cache
from importlib.util import find_spec

from PIL import Image, features

# The same as torchvision.datasets.folder.IMG_EXTENSIONS: the named research sets have no others.
RESEARCH_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HEIF_ENDINGS = (".heic", ".heif")
# Endings beyond these, and what this installation needs to read them.
_MORE = (".jfif", ".jpe", ".gif")
_BY_FEATURE = {".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000"}
# Endings of images that nothing here reads.
# fmt: off
_NOT_READ = frozenset(
    (
        ".jxl", ".psd", ".tga", ".ico", ".svg", ".eps", ".exr", ".hdr", ".pcx", ".xcf", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw",
        ".raf", ".orf", ".rw2", ".pef", ".srw", ".fits", ".nii", ".czi", ".svs", ".ndpi", ".jxr", ".wdp", ".jpf", ".jpx", ".jpm", ".j2c",
        ".apng", ".hif", ".avifs", ".heics", ".pbm", ".pnm", ".pfm", ".dib",
    )
)
# Files that go with images and are none; whatever else has no known ending is known by its first bytes.
_NO_IMAGES = frozenset(
    (
        ".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log",
        ".py", ".ipynb", ".sh", ".m", ".mat", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".hdf5", ".parquet", ".arrow", ".db",
        ".sqlite", ".tar", ".gz", ".tgz", ".zip", ".bz2", ".xz", ".7z", ".rar", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".mp4", ".avi",
        ".mov", ".mkv", ".webm", ".mp3", ".wav", ".xmp", ".aae", ".thm", ".md5", ".sha1", ".sha256", ".lock", ".bak", ".tmp", ".part",
        ".partial", ".safetensors", ".bin", ".idx", ".lst", ".rec", ".cls", ".wld", ".jgw", ".tfw", ".pgw", ".prj", ".cpg",
    )
)
# fmt: on
HEAD_BYTES = 64
# Sizes of the header that follows a BMP's own.
_BMP_HEADERS = (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x38\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
# Pillow's formats that hold pixels and start no other program, the common ones first.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "DIB")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS", "PSD"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"SIMPLE  =", "FITS"),
)
_lock = threading.Lock()


@cache
def read_formats() -> tuple[str, ...]:
    """The formats that Pillow may open here. Others are not tried: some start a program (EPS)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def read_endings() -> tuple[str, ...]:
    """The endings of image files, in lower case with their dot, that this installation reads of people's own data."""
    more = tuple(ending for ending, feature in _BY_FEATURE.items() if features.check(feature))
    return (*RESEARCH_ENDINGS, *_MORE, *more, *(HEIF_ENDINGS if find_spec("pillow_heif") else ()))


def why_not_read(name: str, head: bytes) -> str | None:
    """Why a file that is not read, by its ending, is an image all the same; None where it is none.

    Parameters
    ----------
    name
        The file's.
    head
        Its first bytes, :data:`HEAD_BYTES` of them; they are not needed where :func:`is_told_by_name`.
    """
    ending = ending_of(name)
    if ending in HEIF_ENDINGS:
        return "a HEIC image, which is read with an extra: pip install 'backbone-loop[heif]'"
    if ending in _BY_FEATURE:
        return f"this installation's Pillow has no {_BY_FEATURE[ending]}"
    if ending in _NOT_READ:
        return f"images that end in {ending} are not read; convert it to PNG or TIFF"
    if ending in _NO_IMAGES:
        return None
    found = content_of(head)
    if found is None:
        return None
    told = f"its ending is {ending}" if ending else "it has no ending"
    return f"it holds a {found} image, but {told}; rename it"


def is_told_by_name(name: str) -> bool:
    """Whether :func:`why_not_read` needs no more than the name."""
    ending = ending_of(name)
    return ending in _NO_IMAGES or ending in _NOT_READ or ending in HEIF_ENDINGS or ending in _BY_FEATURE


def ending_of(name: str) -> str:
    """What follows the last dot, in lower case with it; empty where there is none."""
    stem, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def content_of(head: bytes) -> str | None:
    """The image format that the first bytes of a file tell, or None."""
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        # The box names a major brand, a version, and compatible brands; of AVIF and HEIC either may be "mif1".
        brands = head[8:12] + head[16 : int.from_bytes(head[:4], "big")]
        names = [brands[start : start + 4] for start in range(0, len(brands), 4)]
        if b"avif" in names or b"avis" in names:
            return "AVIF"
        return "HEIC" if any(name in _HEIC_BRANDS for name in names) else None
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] in b" \t\r\n":
        return "PPM"
    return None


def heif_reader() -> bool:
    """Have Pillow read HEIC by the extra ``pillow-heif``; whether it is installed."""
    if find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener  # only such files need it

    with _lock:
        register_heif_opener()
    return True
