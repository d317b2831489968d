"""v86lab: a PC in a notebook cell. Python builds what it boots, drives it, looks inside it and keeps its states.

Examples
--------
>>> import v86lab as lab
>>> with lab.Machine() as vm:
...     vm.run("echo hello from a PC").stdout
'hello from a PC\\n'
"""

from . import display, errors, images, rootfs
from . import guestbuild as guestbuild  # registers itself with rootfs
from .abi import require
from .command import CommandResult
from .image import Disk, Image
from .machine import Machine
from .magics import load_ipython_extension as load_ipython_extension  # %load_ext v86lab
from .recording import Recording
from .replay import replay
from .snapshot import Snapshot
from .store import Store
from .versions import versions

display.register()

__all__ = [
    "CommandResult",
    "Disk",
    "Image",
    "Machine",
    "Recording",
    "Snapshot",
    "Store",
    "errors",
    "images",
    "replay",
    "require",
    "rootfs",
    "versions",
]
