"""Debian root file systems, built by mmdebstrap without root.

recipe.py      what is wanted, checked
mirror.py      where packages come from;  index.py: what a mirror offers;  relay.py: how apt reaches it
modes.py       how to do without root here;  mmdebstrap.py: running it;  fault.py: what it says when it fails
guest.py       what a guest needs, and what must go;  documentation.py: what it goes without
build.py       `debian`: all of it, once for each recipe
"""

from __future__ import annotations

from .build import debian

__all__ = ["debian"]
