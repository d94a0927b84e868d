"""What KServe's initializer image runs: downloads pairs of URI and directory with kserve-storage.

The image's own script is no part of the package; this one does the same with the same library. It
imports nothing of Larder.
"""

import sys

from kserve_storage import Storage  # type: ignore[import-untyped]  # it has none


def main(arguments: list[str]) -> int:
    """Download each URI into its directory; returns the exit status."""
    if not arguments or len(arguments) % 2:
        sys.stderr.write("entrypoint: accepted: URI DIRECTORY [URI DIRECTORY ...]\n")
        return 2
    Storage.download_files(arguments[::2], arguments[1::2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
