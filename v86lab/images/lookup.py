"""What `Machine(...)` accepts as an image: an Image, a name, a file recognised by its content, a URL."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from v86lab import download, formats, v86file
from v86lab.board import name_after, printable, with_memory
from v86lab.errors import ImageError
from v86lab.given import Data, checked, opened
from v86lab.image import Image
from v86lab.store import Store

from .constructors import boot_sector, disk, floppy, iso, kernel, linux, multiboot
from .share import Options

NAMES: Mapping[str, Callable[..., Image]] = {"linux": linux}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def resolve(
    what: Image | str | os.PathLike[str],
    memory: int | str | None = None,
    store: Store | None = None,
    progress: download.Progress | None = None,
) -> Image:
    """Make an Image of what a user may name one by.

    Parameters
    ----------
    what : Image, str or path
        An Image; ``"linux"``; a file, recognised by its content (a .v86 file, an ISO, a floppy or disk image, a
        bzImage, a multiboot kernel, a boot sector); or an http or https address of such a file.
    memory : int or str, optional
        In place of what the Image would have.
    store : Store, optional
    progress : callable, optional
        Called with (bytes so far, bytes in all or None) during a download.

    Raises
    ------
    ImageError
        There is no such image.

    Examples
    --------
    >>> resolve("linux", memory="256 MiB").memory
    268435456
    """
    store = Store() if store is None else store
    options: Options = {"store": store}
    if memory is not None:
        options["memory"] = formats.memory(memory)
    if isinstance(what, Image):
        return what if memory is None else with_memory(what, options["memory"], store)
    if isinstance(what, str) and what in NAMES:
        return NAMES[what](**options)
    if isinstance(what, str) and (url := _URL.match(what)):
        if url[1].lower() not in ("http", "https"):
            raise ImageError("cannot fetch this image", expected="an http or https address", seen=formats.quoted(what))
        digest = download.fetch(what, store, progress=progress)
        options["name"] = printable(download.file_name(what) or "download")
        with store.open(digest) as file:
            return _by_content(Data(file, formats.quoted(what), digest), options)
    if not isinstance(what, (str, os.PathLike)):
        hint = "a constructor says what bytes are, such as images.iso" if isinstance(what, bytes) else None
        raise ImageError(
            "this is no image", expected="an Image, a name, a path or a URL", seen=type(what).__name__, hint=hint
        )
    if not os.path.lexists(os.fspath(what).replace("\0", "")):
        raise _unknown(os.fspath(what))
    with opened(what, "image", store) as data:
        name_after(options, what)
        return _by_content(data, options)


def _unknown(what: str) -> ImageError:
    known = ", ".join(f'"{name}"' for name in NAMES)
    close = difflib.get_close_matches(what.lower(), NAMES, n=1, cutoff=0.6)
    return ImageError(
        f"there is no image {formats.quoted(what)}",
        expected=f"a known name ({known}), the path of a file, or a URL",
        seen="none of them",
        hint=f'did you mean "{close[0]}"?' if close else f"relative paths start in {Path.cwd()}",
    )


def _by_content(data: Data, options: Options) -> Image:
    """Choose the constructor by what the bytes are."""
    store = options["store"]
    size = len(data)
    head = data[: 17 * formats.CD_SECTOR]
    if v86file.recognised(head) or head[:1] == b"{":  # JSON is told what has become of it
        image = checked(lambda d: Image.load(d.stream(), store), data)
        return with_memory(image, options["memory"], store) if "memory" in options else image
    if wrapped := formats.wrapper(data):
        raise ImageError(f"cannot use {data.name}", expected="an image", seen=wrapped[0], hint=wrapped[1])
    if head[16 * formats.CD_SECTOR + 1 :][:5] == b"CD001":
        checked(formats.iso9660, data)
        return iso(data.disk(store), **options)
    if head[0x202:0x206] == b"HdrS":
        checked(formats.bzimage, data)
        return kernel(data.disk(store), **options)
    if head[:4] == b"\x7fELF":
        checked(formats.multiboot, data)
        return multiboot(data.disk(store), **options)
    if size == formats.SECTOR and head[510:] == b"\x55\xaa":
        return boot_sector(head, **options)
    if formats.floppy_geometry(size):
        return floppy(data.disk(store), **options)
    if head[510:512] == b"\x55\xaa":
        checked(formats.hard_disk, data)
        return disk(data.disk(store), **options)
    raise ImageError(
        f"cannot tell what {data.name} is",
        expected="a .v86 file, an ISO, a floppy or disk image, a bzImage or a multiboot kernel",
        seen=formats.describe(data),
    )
