"""Archives: what KServe makes of them, and what is refused, in bounded memory."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve_storage import Storage

from agent.sources import archives
from agent.sources.archives import Archive
from larder.errors import BudgetExceededError, FillError, SourceDriftedError

TREE = {"config.json": b"{}", "deep/er/model.bin": bytes(range(256)) * 4096, "empty": b""}
NAMES = ["m.tar", "m.tar.gz", "m.tgz", "m.zip"]


def opened(data: bytes, name: str = "m.tar", max_bytes: int = 1 << 30) -> Archive:
    return Archive(io.BytesIO(data), name, len(data), max_bytes)


def unpacked(data: bytes, name: str = "m.tar", max_bytes: int = 1 << 30) -> dict[str, bytes]:
    members = opened(data, name, max_bytes).members()
    return {member.path: b"".join(member.chunks) for member in members}


def tar_of(*members: tarfile.TarInfo, content: bytes = b"x", mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]  # any mode
        for member in members:
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return made.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def packed(files: Mapping[str, bytes], name: str) -> bytes:
    made = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("a-directory")
            for path, content in files.items():
                archive.writestr(path, content)
        return made.getvalue()
    mode = "w" if name.endswith(".tar") else "w:gz"
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]  # any mode
        tar.addfile(info("./a-directory", tarfile.DIRTYPE))
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def zip_of(*names: str, change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            change(member)
            archive.writestr(member, b"x")
    return made.getvalue()


def kserve_unpacked(data: bytes, name: str, folder: Path) -> dict[str, bytes]:
    """The oracle: what a pod without Larder finds."""
    (folder / name).write_bytes(data)
    kind = "application/zip" if name.endswith(".zip") else "application/x-tar"
    Storage._unpack_archive_file(str(folder / name), kind, str(folder))
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


# --- what is given --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_is_the_one_that_kserve_unpacks(name: str, tmp_path: Path) -> None:
    data = packed(TREE, name)
    assert unpacked(data, name) == TREE == kserve_unpacked(data, name, tmp_path)


@pytest.mark.parametrize("name", ["m.tar", "m.zip"])
def test_dots_and_doubled_slashes_in_a_name_mean_nothing(name: str, tmp_path: Path) -> None:
    data = packed({"./a": b"1", "b/./c": b"2", "d//e": b"3"}, name)
    expected = {"a": b"1", "b/c": b"2", "d/e": b"3"}
    assert unpacked(data, name) == expected == kserve_unpacked(data, name, tmp_path)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_are_read_in_each_form_of_tar(form: int) -> None:
    path = "/".join(["directory-with-a-name"] * 6) + "/model.safetensors"
    path = path if form == tarfile.USTAR_FORMAT else path + "-ö漢"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo(path))
    assert unpacked(made.getvalue()) == {path: b""}


def test_what_is_packed_is_seen_by_the_bytes_not_by_the_name() -> None:
    assert unpacked(packed(TREE, "m.tgz"), "m.tar") == TREE
    assert unpacked(packed(TREE, "m.tar"), "m.tgz") == TREE


@pytest.mark.parametrize("name", NAMES)
def test_a_member_may_be_passed_over(name: str) -> None:
    assert [m.path for m in opened(packed(TREE, name), name).members()] == list(TREE)


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(
    st.dictionaries(paths, st.binary(max_size=2000), min_size=1, max_size=6),
    st.sampled_from(NAMES),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_damage_is_refused_or_found_to_be_none(
    files: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    clean = {p: c for p, c in files.items() if not any(q.startswith(p + "/") for q in files)}
    archive = bytearray(packed(clean, name))
    assert unpacked(bytes(archive), name) == clean
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        archive = archive[: data.draw(st.integers(0, len(archive)))]
    try:
        unpacked(bytes(archive), name)
    except FillError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_an_archive_that_breaks_off_is_refused(name: str, share: float) -> None:
    data = packed(TREE, name)
    with pytest.raises(SourceDriftedError, match="damaged"):
        unpacked(data[: int(len(data) * share)], name)


def test_a_tar_whose_second_header_is_damaged_is_not_taken_for_a_shorter_one() -> None:
    data = bytearray(tar_of(info("a"), info("b")))
    data[1024 + 150] ^= 1  # in b's checksum; TarFile takes that for the archive's end
    with pytest.raises(SourceDriftedError, match="damaged, or breaks off"):
        unpacked(bytes(data))


@pytest.mark.parametrize("name", ["m.tgz", "m.zip"])
def test_content_that_is_not_what_its_digest_says_is_refused(name: str) -> None:
    data = bytearray(packed({"a": b"0123456789" * 100}, name))
    at = len(data) - 8 if name == "m.tgz" else data.rindex(b"PK\x01\x02") + 16  # CRC-32
    data[at] ^= 1
    with pytest.raises(SourceDriftedError, match="damaged"):
        unpacked(bytes(data), name)


# --- what is refused ------------------------------------------------------------------------------

OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "//x", "a/.."]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_name_that_leads_out_is_refused(path: str) -> None:
    for data, name in ((tar_of(info(path)), "m.tar"), (zip_of(path), "m.zip")):
        with pytest.raises(SourceDriftedError, match=r"archive '.*' is refused: .* leads out"):
            unpacked(data, name)


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(info("a", tarfile.SYMTYPE, "b"), id="a link"),
        pytest.param(info("a", tarfile.SYMTYPE, "/etc"), id="a link that leads out"),
        pytest.param(info("a", tarfile.LNKTYPE, "b"), id="a hard link"),
        pytest.param(info("a", tarfile.CHRTYPE), id="a device"),
        pytest.param(info("a", tarfile.BLKTYPE), id="a disk"),
        pytest.param(info("a", tarfile.FIFOTYPE), id="a pipe"),
        pytest.param(info("a", b"Z"), id="what nobody knows"),
    ],
)
def test_what_is_no_plain_file_is_refused(member: tarfile.TarInfo) -> None:
    with pytest.raises(SourceDriftedError, match="'a' is no plain file"):
        unpacked(tar_of(info("b"), member))


def test_a_file_with_holes_is_refused() -> None:
    member = info("a")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1", "GNU.sparse.name": "a"}
    with pytest.raises(SourceDriftedError, match="'a' is no plain file"):
        unpacked(tar_of(member))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_what_is_no_plain_file_in_a_zip_is_refused(kind: int) -> None:
    def change(member: zipfile.ZipInfo) -> None:
        member.create_system, member.external_attr = 3, (kind | 0o644) << 16

    with pytest.raises(SourceDriftedError, match="'a' is no plain file"):
        unpacked(zip_of("a", change=change), "m.zip")


@pytest.mark.parametrize(
    ("field", "value"), [("compress_type", zipfile.ZIP_LZMA), ("compress_type", zipfile.ZIP_BZIP2)]
)
def test_what_few_can_unpack_is_refused(field: str, value: int) -> None:
    data = zip_of("a", change=lambda member: setattr(member, field, value))
    with pytest.raises(SourceDriftedError, match="encrypted, or packed as few"):
        unpacked(data, "m.zip")


def test_what_is_encrypted_is_refused() -> None:
    data = bytearray(zip_of("a"))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceDriftedError, match="encrypted, or packed as few"):
        unpacked(bytes(data), "m.zip")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "a"], "listed twice"),
        (["a", "./a"], "listed twice"),
        (["a", "a/b"], "both a file and a directory"),
        (["n" * 256], "longer than 255"),
        (["a\nb"], "control character"),
        (["./"], "holds no file"),
    ],
)
def test_names_that_make_no_tree_are_refused(names: list[str], says: str) -> None:
    is_directory = names == ["./"]
    members = [info(n, tarfile.DIRTYPE if is_directory else tarfile.REGTYPE) for n in names]
    with pytest.raises(SourceDriftedError, match=says):
        unpacked(tar_of(*members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_s_names_are_held_to_the_same() -> None:
    for names, says in ((("a", "a"), "listed twice"), (("a", "a/b"), "both a file and")):
        with pytest.raises(SourceDriftedError, match=says):
            unpacked(zip_of(*names), "m.zip")


def test_a_member_of_a_zip_without_a_name_is_refused() -> None:
    data = zip_of("qq").replace(b"qq", b"\0q")  # what follows a NUL is no part of a name
    with pytest.raises(SourceDriftedError, match="damaged, or none"):
        unpacked(data, "m.zip")


def test_a_name_that_is_no_text_is_refused() -> None:
    data = tar_of(info("a-odd")).replace(b"a-odd", b"\xff-odd")
    header = bytearray(data[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(SourceDriftedError, match="not valid Unicode"):
        unpacked(bytes(header) + data[512:])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_all_is_refused(name: str) -> None:
    for data in (b"", b"\0" * 1024, b"no archive"):
        with pytest.raises(SourceDriftedError, match=r"is refused: it"):
            unpacked(data, name)


# --- bombs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_more_bytes_than_the_entry_accepts_are_refused_before_they_are_given(name: str) -> None:
    data = packed({"a": b"x" * 1000, "b": b"y" * 1000}, name)
    assert len(unpacked(data, name, max_bytes=2000)) == 2
    members = opened(data, name, max_bytes=1999).members()
    next(members)
    with pytest.raises(BudgetExceededError, match="more than 1999 bytes, which maxSize accepts"):
        next(members)


@pytest.mark.parametrize("name", ["m.tgz", "m.zip"])
def test_bytes_that_become_too_many_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 1000)
    data = packed({"a": bytes(1_000_000)}, name)
    with pytest.raises(SourceDriftedError, match="grows to more than 200 times its size"):
        unpacked(data, name)
    assert unpacked(packed({"a": b"".join(b"%x," % n**5 for n in range(50_000))}, name), name)


def test_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    for name in NAMES:
        assert len(unpacked(packed({str(n): b"" for n in range(3)}, name), name)) == 3
        with pytest.raises(SourceDriftedError, match="more than 3 members"):
            unpacked(packed({str(n): b"" for n in range(4)}, name), name)


def endless_header(kind: bytes) -> bytes:
    """A header of a gigabyte, which tarfile would read as a whole."""
    header = info("x", kind)
    header.size = 1 << 30
    return gzip.compress(header.tobuf() + bytes(100_000_000))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_is_not_read_without_end(kind: bytes) -> None:
    data = endless_header(kind)
    tracemalloc.start()
    with pytest.raises(SourceDriftedError, match="damaged"):
        unpacked(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def holes_in_a_map() -> bytes:
    """A member of PAX with holes, whose map is read as a whole: two million of them."""
    member = info("x")
    sparse = {"major": "1", "minor": "0", "name": "x", "realsize": "10"}
    member.pax_headers = {f"GNU.sparse.{name}": value for name, value in sparse.items()}
    return tar_of(member, content=b"999999999\n" + b"0\n" * 2_000_000)


def holes_in_headers() -> bytes:
    """A member of GNU with holes, told of by headers that each announce another."""
    member = bytearray(info("x", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    member[482] = 1
    member[148:156] = b"%06o\0 " % (sum(member[:148]) + sum(member[156:512]) + 8 * 32)
    return bytes(member) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 8000


@pytest.mark.parametrize("data", [holes_in_a_map(), holes_in_headers()], ids=["PAX", "GNU"])
def test_a_map_of_holes_is_not_read_without_end(data: bytes) -> None:
    archive = opened(data)
    with pytest.raises(SourceDriftedError, match="damaged"):
        list(archive.members())
    assert archive.file.tell() < 500_000 < len(data)


def test_headers_upon_headers_are_refused() -> None:
    headers = b"".join(
        tarfile.TarInfo.create_pax_global_header({f"key{n}": "x"}) for n in range(100)
    )
    alternating = b"".join(
        tarfile.TarInfo.create_pax_global_header({f"key{n}": "x"}) + tar_of(info(f"f{n}"))[:1024]
        for n in range(100)
    )
    deep = tarfile.TarInfo.create_pax_global_header({"key": "x"}) * 5000
    for data in (headers, alternating, deep):
        with pytest.raises(SourceDriftedError, match="damaged"):
            unpacked(data + tar_of(info("a")))


def test_a_zip_s_directory_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_DIRECTORY_MAX_BYTES", 70_000)
    assert len(unpacked(zip_of(*(f"{n:0100}" for n in range(400))), "m.zip")) == 400
    with pytest.raises(SourceDriftedError, match="damaged"):
        unpacked(zip_of(*(f"{n:0100}" for n in range(500))), "m.zip")


def test_what_follows_an_archive_is_not_read_without_end() -> None:
    data = tar_of(info("a"))
    assert unpacked(data + bytes(100_000)) == {"a": b"x"}
    with pytest.raises(SourceDriftedError, match="damaged"):
        unpacked(gzip.compress(data + bytes(10_000_000)))


def test_a_large_member_is_given_in_bounded_memory() -> None:
    data = packed({"a": bytes(50_000_000)}, "m.tgz")
    tracemalloc.start()
    (member,) = [m for m in opened(data, "m.tgz").members() if sum(map(len, m.chunks))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert member.size_bytes == 50_000_000
    assert peak < 3_000_000
