"""The command line: ``v86lab run``, ``build``, ``serve``, ``warm``, ``gc``, ``doctor`` and ``lab``.

One module for each command: `add` says what arguments it takes, `main` does it and gives the exit status. The rules of
all: an error of ours is one message on standard error and status 1, wrong usage is 2, Ctrl-C is 130.
"""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
