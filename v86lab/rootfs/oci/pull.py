"""The pull of an image: from a name or a path to a tree."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from v86lab.errors import DamagedBlob, ImageError, UnknownDigest
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store

from . import manifest
from .descriptor import Checked
from .image import OciImage, found
from .layers import apply
from .layout import in_files, may_hold_an_image
from .manifest import MOST_DOCUMENT, OciConfig
from .platform import Platform
from .reference import Reference
from .registry import Repository


def oci(
    what: str | os.PathLike[str],
    *,
    platform: str = "linux/386",
    store: Store | None = None,
    name: str | None = None,
    insecure: bool | None = None,
) -> RootFS:
    """The root file system of a container image.

    Parameters
    ----------
    what : str or path
        A name as `docker pull` takes it: ``"i386/alpine:3.20"``, ``"ghcr.io/owner/name:tag"``,
        ``"localhost:5000/x@sha256:..."``. Or the path of an OCI image layout or of what `docker save` wrote, a folder
        or a tar; ``"path:name"`` chooses one of several images. A path where an image may be is taken for one.
    platform : str
        Which of an image's platforms: ``"os/architecture"`` or ``"os/architecture/variant"``.
    store : Store, optional
        Where layers are kept, unpacked; one that is there already is not fetched again.
    name : str, optional
        What the tree is called; the name or the file's.
    insecure : bool, optional
        Whether to speak plain HTTP to the registry. Default: only with this computer itself.

    Raises
    ------
    ImageError
        There is no such image, or none for the platform; the registry refuses, breaks off or does not answer; what came
        is not what was promised. Layers that had come are kept: another try fetches the rest.
    StoreFull, StoreReadOnly

    Notes
    -----
    A private registry's user and password are docker's: `docker login` keeps them in ``~/.docker/config.json``
    (``DOCKER_CONFIG``), or in a credential helper. A name with ``@sha256:`` is the same image for ever; `oci_config`
    tells the digest of one that was named by tag.

    Examples
    --------
    >>> tree = oci("i386/alpine:3.20")    # doctest: +SKIP
    >>> tree.read("/etc/alpine-release")  # doctest: +SKIP
    b'3.20.3\\n'
    """
    store = Store() if store is None else store
    image = _located(what, Platform.parse(platform), store, insecure)
    draft = Draft(image.what)
    apply(image, draft, store)
    return RootFS(draft, name or _title(what))


def oci_config(
    what: str | os.PathLike[str],
    *,
    platform: str = "linux/386",
    store: Store | None = None,
    insecure: bool | None = None,
) -> OciConfig:
    """How a container image is meant to run: its entry point, command, environment; and its digest.

    Parameters and errors are those of `oci`; layers are not fetched.

    Examples
    --------
    >>> oci_config("i386/alpine:3.20").cmd    # doctest: +SKIP
    ('/bin/sh',)
    """
    store = Store() if store is None else store
    return _located(what, Platform.parse(platform), store, insecure).config


def _located(what: str | os.PathLike[str], platform: Platform, store: Store, insecure: bool | None) -> OciImage:
    if isinstance(what, os.PathLike) and isinstance(os.fspath(what), str):
        return in_files(Path(what), "", platform, store)
    if not isinstance(what, str):
        raise ImageError("this is no image", expected="the name or path of one", seen=type(what).__name__)
    if (place := _as_path(what)) is not None:
        return in_files(*place, platform, store)
    return _in_registry(Reference.parse(what), platform, store, insecure)


def _as_path(what: str) -> tuple[Path, str] | None:
    """The path, and the name of an image there, that a text means; None when it means no path."""
    for end in (len(what), *(colon.start() for colon in re.finditer(":", what))):
        if end and may_hold_an_image(Path(what[:end])):
            return Path(what[:end]), what[end + 1 :]
    return (Path(what), "") if re.match(r"[./~\\]|[A-Za-z]:[/\\]", what) else None


def _in_registry(reference: Reference, platform: Platform, store: Store, insecure: bool | None) -> OciImage:
    repository = Repository(reference, insecure)
    digest = reference.digest.removeprefix("sha256:")
    media_type, data = "", None
    if digest:
        with suppress(UnknownDigest, DamagedBlob):
            data = store.get(digest)
    if data is None:
        media_type, data = repository.root()
        if digest:
            stream = cast("BinaryIO", io.BytesIO(data))
            data = Checked(stream, f"the manifest of {repository.what}", digest, most=MOST_DOCUMENT).readall()
    document = manifest.read(data, repository.what, media_type)
    return found(repository, document, store.put(data), platform, store)


def _title(what: str | os.PathLike[str]) -> str:
    place = _as_path(what) if isinstance(what, str) else (Path(what), "")
    return str(what) if place is None else ":".join(part for part in (place[0].name, place[1]) if part)
