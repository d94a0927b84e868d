"""A manifest holds what a slot may hold, and reads back as it was written."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.layout import Digest
from larder.manifest import (
    ManifestFile,
    listing_fault,
    make_manifest,
    parse_manifest,
    path_fault,
)

DIGEST = Digest("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
SOURCE = "source hf://o/m abc\n"

names = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12)
paths = st.lists(names, min_size=1, max_size=4).map("/".join).filter(lambda p: not path_fault(p))
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest)
files = st.builds(ManifestFile, path=paths, size_bytes=st.integers(0, 2**63 - 1), sha256=digests)
trees = st.lists(files, max_size=8, unique_by=lambda f: f.path).filter(
    lambda fs: not listing_fault([f.path for f in fs])
)


def test_the_format_is_the_documented_one() -> None:
    manifest = make_manifest(
        "hf://o/m", "abc", [ManifestFile("b c", 3, DIGEST), ManifestFile("a/é", 0, DIGEST)]
    )

    assert manifest.text() == f"1\n{SOURCE}{DIGEST} 0 a/é\n{DIGEST} 3 b c\n"
    assert manifest.size_bytes == 3


@given(trees, st.sampled_from(["hf://o/m", "s3://b/a b"]), st.sampled_from(["abc", "sha256:0"]))
def test_a_manifest_reads_back_as_written(
    tree: list[ManifestFile], uri: str, revision: str
) -> None:
    manifest = make_manifest(uri, revision, tree)

    assert parse_manifest(manifest.text()) == manifest


@given(trees.filter(bool), st.data())
def test_a_torn_manifest_is_refused_or_shorter(
    tree: list[ManifestFile], data: st.DataObject
) -> None:
    text = make_manifest("hf://o/m", "abc", tree).text()
    torn = text[: data.draw(st.integers(0, len(text) - 1))]

    try:
        assert len(parse_manifest(torn).files) < len(tree)
    except ValueError as error:
        assert "\n" not in str(error)


@given(st.text(max_size=80))
def test_no_text_makes_the_reader_fail_otherwise(text: str) -> None:
    for candidate in (text, f"1\n{text}\n", f"1\n{SOURCE}{text}\n"):
        try:
            parse_manifest(candidate)
        except ValueError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the manifest ends in the middle of a line"),
        (f"1\n{SOURCE[:-1]}", "the manifest ends in the middle of a line"),
        ("2\n", "manifest version '2' is not '1'"),
        ("\n", "manifest version '' is not '1'"),
        ("1\n", "the manifest has no source line"),
        ("1\nsource x\n", "line 2 is not 'source URI REVISION': 'source x'"),
        ("1\nsource  x\n", "line 2 is not 'source URI REVISION': 'source  x'"),
        ("1\nsource x \n", "line 2 is not 'source URI REVISION': 'source x '"),
        ("1\nfrom x y\n", "line 2 is not 'source URI REVISION': 'from x y'"),
        (f"1\n{SOURCE}abc 3 a\n", "line 3 is not 'SHA256 SIZE PATH': 'abc 3 a'"),
        (f"1\n{SOURCE}\n", "line 3 is not 'SHA256 SIZE PATH': ''"),
        (f"1\n{SOURCE}{DIGEST} 3\n", "path '' has the part ''"),
        (f"1\n{SOURCE}{DIGEST} 3 b\n{DIGEST} 3 a\n", "the manifest's files are not sorted by path"),
        (f"1\n{SOURCE}{DIGEST} 3 a\n{DIGEST} 3 a\n", "path 'a' is listed twice"),
        (f"1\n{SOURCE}{DIGEST} 3 ../a\n", "path '../a' has the part '..'"),
    ],
)
def test_what_is_no_manifest_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is compared whole
        parse_manifest(text)

    assert str(caught.value) == sentence


@pytest.mark.parametrize("size", ["-1", "01", "1.0", "", "1e3", "٣", "9" * 20])
def test_a_size_is_a_plain_decimal(size: str) -> None:
    with pytest.raises(ValueError, match="line 3 is not"):
        parse_manifest(f"1\n{SOURCE}{DIGEST} {size} a\n")


@pytest.mark.parametrize(
    ("uri", "revision", "path"),
    [("hf://o/m\nx", "abc", "a"), ("", "abc", "a"), ("hf://o/m", "a b", "a"), ("hf://o/m", "", "a"),
     ("hf://o/m", "abc", "../a"), ("hf://o/m", "abc", "\ud800")],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(uri: str, revision: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"does not fit one line|^path "):
        make_manifest(uri, revision, [ManifestFile(path, 1, DIGEST)])


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        pytest.param("\ud800", r"path '\ud800' is not valid Unicode", id="half a surrogate"),
        pytest.param(
            "a/" * 512 + "a", f"path {('a/' * 30)!r}… is longer than 1024 bytes", id="long"
        ),
        pytest.param(
            "é" * 150, f"path {('é' * 60)!r}… has a name longer than 255 bytes", id="name"
        ),
        pytest.param("a\0b", r"path 'a\x00b' holds a control character", id="NUL"),
        pytest.param("a\nb", r"path 'a\nb' holds a control character", id="newline"),
        pytest.param("a\x7f", r"path 'a\x7f' holds a control character", id="delete"),
        pytest.param("/a", "path '/a' is absolute", id="absolute"),
        pytest.param("..", "path '..' has the part '..'", id="parent"),
        pytest.param("a/../b", "path 'a/../b' has the part '..'", id="parent inside"),
        pytest.param("./a", "path './a' has the part '.'", id="here"),
        pytest.param("a//b", "path 'a//b' has the part ''", id="empty part"),
        pytest.param("a/", "path 'a/' has the part ''", id="trailing slash"),
        pytest.param("", "path '' has the part ''", id="empty"),
    ],
)
def test_a_hostile_path_has_a_fault(path: str, fault: str) -> None:
    assert path_fault(path) == fault


@given(st.text(alphabet="ab./\\~ \0\n", max_size=20) | st.text(max_size=300))
def test_a_path_without_fault_stays_below_its_directory(path: str) -> None:
    if path_fault(path) is None:
        joined = posixpath.normpath(posixpath.join("/root/content", path))
        assert joined == f"/root/content/{path}"


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        (["a", "b/c", "b/d"], None),
        ([], None),
        (["a", "a"], "path 'a' is listed twice"),
        (["a", "a/b/c"], "path 'a' is both a file and a directory"),
        (["a/b/c", "a/b"], "path 'a/b' is both a file and a directory"),
        (["a", "../b"], "path '../b' has the part '..'"),
    ],
)
def test_paths_make_one_tree_or_have_a_fault(listed: list[str], fault: str | None) -> None:
    assert listing_fault(listed) == fault
