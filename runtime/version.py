"""Which Larder this is: its version and, in an image, the commit that the image was built from."""

from importlib.metadata import version


def version_text() -> str:
    """`0.1.0`, in an image `0.1.0 (commit 3f2a91c07b4e)`.

    The Dockerfiles write the commit into the package's own version, `0.1.0+g3f2a91c07b4e`.
    """
    return told(version("larder"))


def told(full: str) -> str:
    """A version as people read it."""
    public, _, local = full.partition("+")
    return f"{public} (commit {local.removeprefix('g')})" if local else public
