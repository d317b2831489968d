"""Images in files: OCI image layouts and what ``docker save`` writes, as a folder or a tar.

A layout has ``index.json`` and blobs by digest. An archive of ``docker save`` has ``manifest.json``, which names files;
since docker 25 it is a layout as well, and read as one. Either is first read as a tree: names that lead out of it, and
compression, are that reader's matter, and links lead only to what is in the tree.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from v86lab.errors import ImageError
from v86lab.formats import MIB, quoted
from v86lab.rootfs.content import Content
from v86lab.rootfs.directory import directory
from v86lab.rootfs.tar import tar
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store

from . import manifest
from .descriptor import Checked, Descriptor
from .image import Came, OciImage, found, with_layers
from .manifest import MOST_DOCUMENT, MOST_LAYERS, Listed
from .platform import Platform
from .reference import Reference

_LAYOUT, _INDEX, _SAVED = "oci-layout", "index.json", "manifest.json"


def may_hold_an_image(path: Path) -> bool:
    """Whether a path is a file, or a folder with an image's files in it.

    Examples
    --------
    >>> may_hold_an_image(Path("/does/not/exist"))
    False
    """
    try:
        return path.is_file() or any((path / name).is_file() for name in (_LAYOUT, _SAVED))
    except (OSError, ValueError):  # too long a name, a NUL
        return False


def in_files(path: Path, name: str, platform: Platform, store: Store) -> OciImage:
    """The image in a layout or an archive.

    Parameters
    ----------
    path : Path
    name : str
        Which one, when there are several: a tag or a whole name; "" otherwise.
    platform : Platform
    store : Store
        Where a compressed archive is unpacked to.

    Raises
    ------
    ImageError
    """
    what = f"the image in {quoted(os.fspath(path))}"
    if not may_hold_an_image(path):
        raise _no_image(what, "a folder without them" if path.is_dir() else "nothing")
    files = _Files(what, directory(path) if path.is_dir() else tar(path, store=store))
    if _INDEX in files.tree:
        version = _field(files.document(_LAYOUT), "imageLayoutVersion", what)
        if not isinstance(version, str) or not version.startswith("1."):
            raise ImageError(f"cannot read {what}", expected="an image layout of version 1", seen=f"{version!r:.80}")
        data = files.read(_INDEX)
        document = manifest.read(data, what)
        if isinstance(document, tuple):
            document = _named(document, name, what)
        return found(files, document, hashlib.sha256(data).hexdigest(), platform, store)
    if _SAVED in files.tree:
        return _saved(files, name, platform)
    raise _no_image(what, "a tar without them")


class _Files:
    """The files of a layout or an archive: an `image.Origin`."""

    def __init__(self, what: str, tree: RootFS) -> None:
        self.what = what
        self.tree = tree

    def open(self, descriptor: Descriptor) -> BinaryIO:
        return self.stream(f"blobs/sha256/{descriptor.digest}")

    def content(self, name: str) -> Content:
        """What a file holds."""
        inode = self.tree.follow(name)
        if inode is None or not inode.is_file:
            raise ImageError(
                f"{self.what} is not complete",
                expected=f"a file {quoted(name, 100)}",
                seen="none" if inode is None else f"a {inode.type}",
                hint="`docker save --platform`, or a copy of all platforms, may be missing",
            )
        return inode.content

    def stream(self, name: str) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Pieces(self.content(name)), MIB))

    def read(self, name: str) -> bytes:
        """A whole document."""
        content = self.content(name)
        if content.size > MOST_DOCUMENT:
            raise ImageError(
                f"{quoted(name, 100)} of {self.what} is too long",
                expected=f"at most {MOST_DOCUMENT} bytes",
                seen=f"{content.size}",
            )
        return content.read()

    def document(self, name: str) -> Any:
        """A whole document, parsed."""
        return manifest.document(self.read(name), f"{quoted(name, 100)} of {self.what}")


class _Pieces(io.RawIOBase):
    """A content as a stream."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self._pieces = cast("Generator[bytes, None, None]", content.solid())
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._pieces.close()
        super().close()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _no_image(what: str, seen: str) -> ImageError:
    return ImageError(
        f"cannot find {what}",
        expected=f"an OCI layout ({_LAYOUT}, {_INDEX}) or what `docker save` writes ({_SAVED})",
        seen=seen,
        hint="rootfs.tar and rootfs.directory read root file systems",
    )


def _named(entries: tuple[Listed, ...], name: str, what: str) -> tuple[Listed, ...]:
    """The entries of a layout's index that go by a name; all, when there is but one image."""
    names = sorted({known for entry in entries for known in entry.names})
    if name:
        chosen = tuple(entry for entry in entries if any(_same(known, name) for known in entry.names))
        if not chosen:
            raise _several(what, name, names)
        return chosen
    if len({entry.descriptor.digest for entry in entries if entry.names}) > 1 and len({e.names for e in entries}) > 1:
        raise _several(what, "no name", names)
    return entries


def _saved(files: _Files, name: str, platform: Platform) -> OciImage:
    """The image of an archive that is no layout (docker's image specification 1.2, "Combined Image JSON")."""
    images = files.document(_SAVED)
    if not isinstance(images, list) or not images or not all(isinstance(image, dict) for image in images):
        raise ImageError(f"cannot read {files.what}", expected=f"a list of images in {_SAVED}", seen=f"{images!r:.80}")
    tags = {number: _texts(image, "RepoTags", files.what) for number, image in enumerate(images)}
    chosen = [number for number in tags if not name or any(_same(tag, name) for tag in tags[number])]
    if len(chosen) != 1:
        raise _several(files.what, name or "no name", [tag for known in tags.values() for tag in known])
    image = images[chosen[0]]
    config = manifest.config(files.read(str(_field(image, "Config", files.what))), files.what)
    if not config.platform.suits(platform):
        raise platform.missing(files.what, [config.platform])
    layers = _texts(image, "Layers", files.what)

    def opened(number: int, what: str, came: Came | None) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(Checked(files.stream(layers[number]), what, came=came), MIB))

    return with_layers(files.what, config, [files.content(layer).size for layer in layers[: MOST_LAYERS + 1]], opened)


def _same(known: str, name: str) -> bool:
    """Whether a name that is in a file is the one that is asked for: as written, or as docker reads both."""
    if known == name or known.rpartition(":")[2] == name:
        return True
    try:
        return Reference.parse(known) == Reference.parse(name)
    except ImageError:
        return False


def _several(what: str, wanted: str, names: list[str]) -> ImageError:
    return ImageError(
        f"cannot tell which image of {what} is meant",
        expected="the name of one, after the path and a colon",
        seen=f"{quoted(wanted)}; there are {quoted(', '.join(names))}",
    )


def _field(value: object, name: str, what: str) -> object:
    if not isinstance(value, dict):
        raise ImageError(f"cannot read {what}", expected=f"a JSON object with {name}", seen=f"{value!r:.80}")
    return value.get(name)


def _texts(image: Mapping[str, object], name: str, what: str) -> list[str]:
    value = image.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ImageError(f"cannot read {what}", expected=f"{name} as a list of texts", seen=f"{value!r:.80}")
    return value
