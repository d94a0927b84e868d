"""Composes the one file that the agent writes into every slot and that pods run.

    slots/<key>/initializer
      source of hit.py                 compiled at every start
      start({                          strings cost nothing until a pod is no plain hit
      "initializer.watch": r'''…''',   sources, each after those it imports
      "initializer.links": r'''…''',
      "initializer.wait": r'''…''',
      })
      # end of the initializer         the pod's shell looks for it: a file cut short must not run

One file, so that it is replaced in one step and all its parts are always of the same version.
"""

from importlib.resources import files
from typing import Final

from larder.contract import INITIALIZER_END

SIBLINGS: Final = ("watch", "links", "wait")


def program() -> bytes:
    """Return the initializer as one self-contained file for Python 3.9 and later."""
    sources = files("initializer")
    parts = [sources.joinpath("hit.py").read_text("utf-8"), "\n\nstart({\n"]
    for name in SIBLINGS:
        source = sources.joinpath(f"{name}.py").read_text("utf-8")
        parts.append(f"\"initializer.{name}\": r'''\n{source}''',\n")
    return "".join([*parts, "})\n", INITIALIZER_END, "\n"]).encode()
