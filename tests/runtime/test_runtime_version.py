import pytest

from runtime.version import told


@pytest.mark.parametrize(
    ("full", "read"),
    [
        pytest.param("0.1.0", "0.1.0", id="of a checkout"),
        pytest.param("0.1.0+g3f2a91c07b4e", "0.1.0 (commit 3f2a91c07b4e)", id="of an image"),
        pytest.param("0.1.0+g3f2a.dirty", "0.1.0 (commit 3f2a.dirty)", id="of changed files"),
    ],
)
def test_a_version_names_the_commit_that_an_image_was_built_from(full: str, read: str) -> None:
    assert told(full) == read
