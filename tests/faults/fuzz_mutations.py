"""Changes of a file: of its bytes, its lines, the values in its JSON, the pickle in its archive. Each depends on its number alone."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutate = Callable[[random.Random, list[bytes]], bytes]

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        20_000,
        10**6,
        10**9,
        2**63,
        2**70,
        10**300,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
    ),
    *(
        "",
        "x",
        "x" * 5000,
        "../../../../etc/passwd",
        "/",
        "folder:/",
        "\x1b[31mred\x1b[0m",
        "\ud800",
        "\0",
        "a\nb",
        "NaN",
        "1e400",
        "${oc.env:HOME}",
    ),
    *([], {}, [None], [[]], {"": {}}, {"a": None}, [1, 2], [0.5, 0.5, 0.5], ["x"] * 50, {"__class__": "os.system"}),
]
WORDS = [
    b"NaN",
    b"Infinity",
    b"-",
    b"1e999",
    b"null",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"[" * 3000,
    b'{"a":' * 500,
    b"9" * 5000,
    b"\xef\xbb\xbf",
]
PICKLE = [
    *(b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\nexec\n", b"csubprocess\nPopen\n", b"ctorch\nload\n"),
    *(
        b"(X\x0a\x00\x00\x00touch /tmpt",
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"\x85R",
        b")R",
        b"0",
        b"2",
        b"q\x00",
        b"h\x00",
        b"\x86",
        b"s",
        b"u",
        b"e",
        b"a",
    ),
    *(
        b"r\xff\xff\xff\x7f",
        b"j\xff\xff\xff\x7f",
        b"\x8a\x04\xff\xff\xff\x7f",
        b"J\xff\xff\xff\x7f",
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"N",
        b"Q",
        b".",
    ),
    *(
        b"ccollections\nOrderedDict\n",
        b"cbuiltins\nbytearray\n",
        b"cbuiltins\nset\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch\nTensor\n",
        b"c__main__\nX\n",
    ),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
        b"ctorch\nSize\n",
    ),
    *(
        b"cnumpy\nndarray\n",
        b"cnumpy._core.multiarray\n_reconstruct\n",
        b"cnumpy\ndtype\n",
        b"c_codecs\nencode\n",
        b")" + b"q\x01h\x01\x86" * 40,
    ),
]
YAML = [
    *(
        b"!!python/object/apply:os.system [x]",
        b"&a [*a]",
        b"<<: *a",
        b"&a",
        b"*a",
        b"!!bool x",
        b"!!timestamp x",
        b"!!set {x}",
        b"? ",
        b"- ",
        b": ",
    ),
    *(
        b"${oc.env:HOME}",
        b"${a.b}",
        b"???",
        b"[" * 100,
        b"{",
        b"|",
        b">",
        b"'",
        b'"',
        b"%YAML 9.9\n",
        b"---\n",
        b"_BASE_: /dev/zero\n",
        b"base: /dev/zero\n",
    ),
]
XML = [
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&b;",
    b"&#0;",
    b"<a>" * 200,
    b"</object>",
    b"<object>",
    b"<bndbox>",
    b"nan",
    b"-1",
    b"1e400",
    b"<![CDATA[",
]


def of_bytes(*words: bytes) -> Mutate:
    """One to eight changes: bits, bytes, numbers, cuts, repetitions, pieces of another example, words of the format."""

    def mutate(draw: random.Random, seeds: list[bytes]) -> bytes:
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            at = draw.randrange(len(data) + 1)
            # Heads are where most of the meaning is.
            at = draw.choice((at, min(at, draw.randrange(65))))
            length = draw.choice((1, 2, 4, 8, 64, 1000))
            kind = draw.randrange(9 if words else 8)
            if kind == 0:
                data[at : at + 1] = bytes(byte ^ 1 << draw.randrange(8) for byte in data[at : at + 1])
            elif kind == 1:
                data[at : at + 1] = bytes([draw.randrange(256)])
            elif kind == 2:
                number = draw.choice(NUMBERS) & (2**64 - 1)
                packed = struct.pack(draw.choice("<>") + "Q", number)
                size = draw.choice((1, 2, 4, 8))
                data[at : at + size] = packed[:size] if draw.random() < 0.5 else packed[-size:]
            elif kind == 3:
                del data[at : at + length]
            elif kind == 4:
                data[at:at] = data[at : at + length] * draw.choice((1, 1, 20))
            elif kind == 5:
                del data[at:]
            elif kind == 6:
                data[at:at] = draw.randbytes(length)
            elif kind == 7:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at : at + length] = other[start : start + length]
            else:
                data[at : at + draw.choice((0, length))] = draw.choice(words)
        return bytes(data)

    return mutate


def of_json(draw: random.Random, seeds: list[bytes]) -> bytes:
    """One to four values, names or entries of a JSON text changed; sometimes the bytes of it too."""
    content = json.loads(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []
        groups = [content]
        while groups:
            group = groups.pop()
            for key, value in list(group.items() if isinstance(group, dict) else enumerate(group)):
                places.append((group, key))
                if isinstance(value, (dict, list)) and value:
                    groups.append(value)
        if not places:
            break
        group, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del group[key]
        elif kind == 1 and isinstance(group, dict):
            group[draw.choice((key + "x", "", "schema", "__class__", key.upper()))] = group.pop(key)
        elif kind == 2:
            group[key] = [group[key]] if draw.random() < 0.5 else {"a": group[key]}
        else:
            group[key] = json.loads(json.dumps(draw.choice(VALUES)))
    text = json.dumps(content)
    if draw.random() < 0.1:
        text = text.replace("{", '{"schema": 1, "schema": 2, ', 1)
    data = text.encode("utf-8", errors="surrogatepass")
    return of_bytes(*WORDS)(draw, [data]) if draw.random() < 0.2 else data


def of_json_lines(draw: random.Random, seeds: list[bytes]) -> bytes:
    lines = draw.choice(seeds).splitlines()
    for _ in range(draw.choice((1, 2, 3))):
        at = draw.randrange(len(lines))
        try:
            whole = isinstance(json.loads(lines[at]), dict)
        except (ValueError, RecursionError):
            whole = False
        lines[at] = of_json(draw, [lines[at]]) if whole and draw.random() < 0.8 else of_bytes(*WORDS)(draw, [lines[at]])
        if draw.random() < 0.2:
            lines.insert(at, lines[draw.randrange(len(lines))])
    return b"\n".join(lines) + draw.choice((b"", b"\n", b"\n\0\0\0"))


def in_archive(*endings: str, mutate: Mutate) -> Mutate:
    """Entries of a zip archive changed, with the checksums that belong to them; now and then packed, renamed, lost or given twice."""

    def change(draw: random.Random, seeds: list[bytes]) -> bytes:
        with zipfile.ZipFile(io.BytesIO(draw.choice(seeds))) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        number = draw.choice([place for place, (name, _) in enumerate(entries) if name.endswith(endings)])
        name, data = entries[number]
        entries[number] = (name, mutate(draw, [data]))
        if draw.random() < 0.1:
            entries.insert(draw.randrange(len(entries) + 1), entries[draw.randrange(len(entries))])
        if draw.random() < 0.05:
            del entries[draw.randrange(len(entries))]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", draw.choice((zipfile.ZIP_STORED,) * 6 + (zipfile.ZIP_DEFLATED,))) as archive:
            for name, data in entries:
                archive.writestr(zipfile.ZipInfo(name), data)
        return packed.getvalue()

    return change


def of_safetensors(draw: random.Random, seeds: list[bytes]) -> bytes:
    """The header changed as JSON, and its length right."""
    data = draw.choice(seeds)
    length = int.from_bytes(data[:8], "little")
    head = of_json(draw, [data[8 : 8 + length]])
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def of_tar(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Bytes of a tar archive changed, and the checksums of its headers right."""
    data = bytearray(
        of_bytes(b"ustar", b"../../x.png", b"/etc/passwd", b"77777777777\0", b"\x80\xff\xff\xff", b"30 path=../x\n")(draw, seeds)
    )
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def of_png(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Bytes of a PNG changed, and the checksums of its chunks right."""
    data = bytearray(of_bytes(b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"iTXt", b"acTL", b"eXIf", b"iCCP")(draw, seeds))
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        data[at + 8 + length : at + 12 + length] = zlib.crc32(data[at + 4 : at + 8 + length]).to_bytes(4, "big")
        at += 12 + length
    return bytes(data)


def either(*mutations: Mutate) -> Mutate:
    return lambda draw, seeds: draw.choice(mutations)(draw, seeds)
