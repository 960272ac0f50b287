"""The index of a tar file, against Python's tarfile."""

import io
import shutil
import subprocess
import tarfile

import pytest

from zoo.data.shards.tar_index import TarError, tar_members

NAMES = ["a.png", "d/b.jpg", "d/" + "x" * 95 + ".cls", "p" * 120 + "/" + "q" * 30 + ".png", "ü/é.txt", "last"]


def archive(form=tarfile.DEFAULT_FORMAT, names=NAMES, mtime=0.0):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 300 * number, mtime
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
    return buffer.getvalue()


def expected(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, member.offset_data, member.size) for member in tar if not member.isdir()]


def found(data):
    return [(member.name, member.offset, member.size) for member in tar_members(data)]


# A time with a fraction gives every member an extended header, as in the shards of WebDataset's own writer.
@pytest.mark.parametrize(
    ("form", "mtime"), [(tarfile.USTAR_FORMAT, 0), (tarfile.GNU_FORMAT, 0), (tarfile.PAX_FORMAT, 0), (tarfile.PAX_FORMAT, 1.5)]
)
def test_formats(form, mtime):
    names = [*NAMES, "z" * 300] if form != tarfile.USTAR_FORMAT else NAMES
    data = archive(form, names, mtime)
    assert found(data) == expected(data)
    assert [name for name, _, _ in found(data)] == names
    number, (_, offset, size) = 3, found(data)[3]
    assert data[offset : offset + size] == bytes([number]) * 900


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the tar command")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_files_of_the_tar_command(tmp_path, form):
    names = ["a.png", "sub/b.jpg"]
    if form != "v7":
        names.append("sub/" + "n" * (150 if form in ("gnu", "oldgnu", "posix") else 90) + ".txt")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for number, name in enumerate(names):
        (tmp_path / "in" / name).write_bytes(bytes([number]) * (513 * number))
    subprocess.run(["tar", f"--format={form}", "-cf", tmp_path / "x.tar", "-C", tmp_path / "in", "."], check=True)
    data = (tmp_path / "x.tar").read_bytes()
    assert found(data) == expected(data)
    assert {name.removeprefix("./") for name, _, _ in found(data)} == set(names)


def test_links_have_no_content():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "a.png"), (tarfile.LNKTYPE, "b.png"), (tarfile.DIRTYPE, "folder"), (tarfile.REGTYPE, "c.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x" * 150
            tar.addfile(info)
    assert [(member.name, member.is_link) for member in tar_members(buffer.getvalue())] == [
        ("a.png", True),
        ("b.png", True),
        ("c.png", False),
    ]


def test_sizes_beyond_eight_gigabytes():
    # Only the header is made: the file then ends inside the member, at a place that shows that the size was understood.
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big")
        info.size = 9 * 1024**3
        header = info.tobuf(form)
        with pytest.raises(TarError, match="ends inside the member"):
            list(tar_members(header + bytes(10**6)))


def test_damage_is_an_error_wherever_it_is():
    data = archive()
    starts = [offset - 512 for _, offset, _ in found(data)]
    for start in starts[1:]:
        for position in (start, start + 130, start + 148):
            damaged = bytearray(data)
            damaged[position] ^= 0x55
            with pytest.raises(TarError, match=f"no tar header at byte {start}|extended"):
                list(tar_members(bytes(damaged)))
    _, last, size = found(data)[-1]
    for end in (last + size - 1, last - 1, last - 100, starts[1] + 1):
        with pytest.raises(TarError):
            list(tar_members(data[:end]))
    # The padding and the two empty blocks at the end may be missing.
    assert found(data[: last + size]) == found(data)


def test_damaged_extended_headers():
    data = archive(tarfile.PAX_FORMAT, ["z" * 300])
    record = data.index(b" path=")
    for content in (b"000", b"abc"):
        damaged = data[: record - 3] + content + data[record:]
        with pytest.raises(TarError, match="extended header is damaged"):
            list(tar_members(damaged))


def test_foreign_bytes():
    for data in (b"x", b"hello" * 1000, b"\x1f\x8b" + bytes(2000)):
        with pytest.raises(TarError, match="no tar header at byte 0"):
            list(tar_members(data))
    assert list(tar_members(bytes(1024))) == []
