"""The image that a word of the command line names, with the options that all commands have for one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from v86lab import images
from v86lab.image import Image
from v86lab.progress import Progress
from v86lab.store import Store

IMAGE_HELP = '"linux", a .v86 file, an ISO, a floppy or disk image, a kernel, or the URL of one'


def named_image(name: str, store: Store, memory: str | None = None, share: Path | None = None) -> Image:
    """The image of that name; what takes more than a second is said to be going on.

    Parameters
    ----------
    name : str
        See `v86lab.images.resolve`.
    store : Store
    memory : str, optional
        Instead of the image's.
    share : Path, optional
        A folder, of which the guest sees a copy.
    """
    with Progress(f"fetching {name}" if "://" in name else f"reading {name}") as progress:
        done = 0

        def came(count: int, _: int | None) -> None:
            nonlocal done
            progress.advance(count - done)
            done = count

        image = images.resolve(name, memory=memory, store=store, progress=came)
        if share is not None:
            image = dataclasses.replace(image, share=images.shared(share, store))
    return image
