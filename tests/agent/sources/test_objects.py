"""What all object stores have in common, with a store that is a list."""

import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice

import pytest

from agent.planning.values import RemoteFile
from agent.sources.interface import SourceRequest
from agent.sources.objects import MAX_OBJECTS, ObjectSource, Page, StoredObject
from agent.sources.web import Answer
from larder.errors import FillError, SourceDriftedError

REQUEST = SourceRequest("s3://b/m")


class Listed:
    """A store of so many objects; `pages` is what was asked for."""

    name = "bucket b"
    keeps_empty = False

    def __init__(self, keys: Iterator[str], prefix: str = "m") -> None:
        self.prefix = prefix
        self.pages: list[str] = []
        self._keys = keys

    def page(self, prefix: str, page_objects: int, page: str | None) -> Page:
        self.pages.append(prefix)
        assert page == (None if self.pages.count(prefix) == 1 else "more")
        if prefix and not prefix.endswith("/"):
            return Page((), None)  # no object has the prefix's own name
        found = [StoredObject(key, 1, '"e"') for key in islice(self._keys, page_objects)]
        return Page(found, "more" if len(found) == page_objects else None)

    def described(self, file: RemoteFile, key: str) -> RemoteFile:
        del key
        return file

    def get(
        self, file: RemoteFile, key: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Answer]:
        raise NotImplementedError

    def refusal(self, answer: Answer, what: str) -> FillError:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def test_of_a_million_keys_no_more_than_a_model_may_have_are_listed_in_bounded_memory() -> None:
    store = Listed(f"m/{n:07}" for n in range(1_000_000))
    tracemalloc.start()
    with pytest.raises(SourceDriftedError, match="more than 100000 objects below 'm'"):
        ObjectSource(store).list(REQUEST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(store.pages) == 1 + MAX_OBJECTS // 1000 + 1
    assert peak < 100_000_000


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param(["m/a//b"], "has the part ''", id="an empty part"),
        pytest.param(["m/../b"], "has the part '..'", id="a part that leads up"),
        pytest.param(["m/a", "m/./a"], "has the part '.'", id="two that are one when put right"),
        pytest.param(["m/a", "m/a/b"], "both a file and a directory", id="a file in a file"),
        pytest.param(["m/a\nb"], "control character", id="a line's end"),
        pytest.param(["m/" + "n" * 256], "longer than 255 bytes", id="a name that is too long"),
        pytest.param(["n/a"], "a key outside of 'm'", id="a key of somebody else's"),
    ],
)
def test_keys_that_make_no_tree_are_refused_with_the_model(keys: list[str], says: str) -> None:
    with pytest.raises(SourceDriftedError, match=says):
        ObjectSource(Listed(iter(keys))).list(REQUEST)


def test_spaces_and_odd_letters_in_a_key_are_letters() -> None:
    keys = ["m/trailing ", "m/ leading", "m/ö漢", "m/a+b&c%20d?e#f", "m/A", "m/a"]
    listing = ObjectSource(Listed(iter(keys))).list(REQUEST)
    assert {f"m/{file.path}" for file in listing.files} == set(keys)


def test_an_empty_prefix_is_the_whole_bucket() -> None:
    store = Listed(iter(["x", "d/y"]), prefix="")
    listing = ObjectSource(store).list(SourceRequest("s3://b"))
    assert [file.path for file in listing.files] == ["d/y", "x"]


def test_markers_of_folders_are_no_files_at_any_depth_and_with_bytes() -> None:
    store = Listed(iter(["m/", "m/d/", "m/d/e/", "m/d/e/f"]))
    assert [file.path for file in ObjectSource(store).list(REQUEST).files] == ["d/e/f"]
