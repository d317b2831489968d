"""Indexes, manifests and configurations of images: JSON in, frozen values out; no I/O.

The rules:

* the descriptor or server that led here says what a document is; one that calls itself otherwise, or that could be read
  as two things (CVE-2021-41190), is refused;
* lengths are bounded before anything is parsed, numbers of entries before they are looked at;
* any bytes at all lead to a value or to `ImageError`.

Docker's and OCI's formats differ in nothing but their media types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from v86lab.errors import ImageError
from v86lab.formats import MIB, quoted

from .descriptor import MOST_BLOB, Descriptor, sha256
from .platform import Platform

MOST_DOCUMENT = 4 * MIB  # what registries take; the distribution specification asks them for as much
MOST_LAYERS = 512  # docker: 127
_MOST_MANIFESTS = 1000

INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIGS = {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
_LAYERS = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
}
_COMPRESSED = ("+gzip", "+zstd", ".gzip", ".zstd")


@dataclass(frozen=True)
class Listed:
    """An entry of an index: a manifest (or another index), its platform if it is said, and the names given to it."""

    descriptor: Descriptor
    platform: Platform | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """An image for one platform: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class OciConfig:
    """How an image is meant to run, and what its layers are when unpacked.

    Attributes
    ----------
    platform : Platform
    diff_ids : tuple of str
        The sha256 of each layer's tar, in hex, the lowest first.
    entrypoint, cmd : tuple of str
        What runs: the first with the second as arguments, or the second alone.
    env : tuple of str
        "NAME=value".
    working_dir, user : str
        "" when not said.
    digest : str
        The sha256, in hex, of the manifest, if there is one: ``name@sha256:<digest>`` is this image for ever.
    """

    platform: Platform
    diff_ids: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    digest: str = ""


def read(data: bytes, what: str, media_type: str = "") -> tuple[Listed, ...] | Manifest:
    """Read an index (docker: a manifest list) or a manifest.

    Parameters
    ----------
    data : bytes
    what : str
        What is being read, for errors.
    media_type : str
        What it was said to be; "" where nobody says, as of a layout's ``index.json``.

    Returns
    -------
    tuple of Listed, or Manifest

    Raises
    ------
    ImageError
        Also when it is no image but another artifact, or a layer is nothing that can be unpacked.

    Examples
    --------
    >>> read(b'{"schemaVersion": 2, "manifests": []}', "an example")
    ()
    """
    fields = _mapping(document(data, f"the manifest of {what}"), f"the manifest of {what}")
    if fields.get("schemaVersion") == 1:
        raise ImageError(
            f"the manifest of {what} is of docker's first schema",
            expected="the second, or OCI's",
            seen="one from before 2016",
            hint="pull it and push it again with a current docker",
        )
    named, types, others = (
        (f"the index of {what}", INDEXES, ("config", "layers"))
        if "manifests" in fields
        else (f"the manifest of {what}", MANIFESTS, ("manifests",))
    )
    for said in (media_type, fields.get("mediaType", "")):
        if said and (said not in types or said != (media_type or said)):
            raise ImageError(f"{named} has another type", expected=media_type or min(types), seen=quoted(said))
    for field in others:
        if fields.get(field) is not None:
            raise ImageError(f"{named} could be read as two things", expected=f"no {field} in it", seen=field)
    if types is INDEXES:
        return tuple(_listed(entry, what) for entry in _list(fields, "manifests", named))
    return _manifest(fields, what)


def _manifest(fields: Mapping[str, Any], what: str) -> Manifest:
    named = f"the manifest of {what}"
    config = descriptor(fields.get("config"), f"the configuration of {what}", MOST_DOCUMENT)
    if config.media_type not in _CONFIGS:
        raise ImageError(
            f"{what} is no image of a file system", expected="an image's configuration", seen=quoted(config.media_type)
        )
    layers = [
        descriptor(layer, f"layer {number} of {what}", MOST_BLOB)
        for number, layer in enumerate(_list(fields, "layers", named, MOST_LAYERS), 1)
    ]
    for number, layer in enumerate(layers, 1):
        if not is_layer(layer.media_type):
            raise ImageError(
                f"layer {number} of {what} cannot be unpacked",
                expected="a tar, plain or compressed by gzip or zstd",
                seen=quoted(layer.media_type),
                hint="encrypted layers and those of other tools are not supported",
            )
    return Manifest(config, tuple(layers))


def config(data: bytes, what: str) -> OciConfig:
    """Read the configuration of an image.

    Raises
    ------
    ImageError
    """
    named = f"the configuration of {what}"
    fields = _mapping(document(data, named), named)
    rootfs = _mapping(fields.get("rootfs"), f"{named}: rootfs")
    run = _mapping(fields.get("config") or {}, f"{named}: config")
    return OciConfig(
        platform=_platform(fields, named),
        diff_ids=tuple(sha256(one, named) for one in _list(rootfs, "diff_ids", named, MOST_LAYERS)),
        entrypoint=_texts(run, "Entrypoint", named),
        cmd=_texts(run, "Cmd", named),
        env=_texts(run, "Env", named),
        working_dir=_text(run, "WorkingDir", named),
        user=_text(run, "User", named),
    )


def descriptor(value: object, what: str, most: int = MOST_BLOB) -> Descriptor:
    """Read a descriptor.

    Raises
    ------
    ImageError
    """
    fields = _mapping(value, what)
    size = fields.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= most:
        raise ImageError(f"{what} cannot be used", expected=f"a size of at most {most} bytes", seen=f"{size!r:.80}")
    return Descriptor(_text(fields, "mediaType", what), sha256(fields.get("digest"), what), size)


def is_layer(media_type: str) -> bool:
    """Whether something is a layer; how it is compressed, its first bytes say.

    Examples
    --------
    >>> is_layer("application/vnd.docker.image.rootfs.diff.tar.gzip"), is_layer("text/html")
    (True, False)
    """
    for suffix in _COMPRESSED:
        media_type = media_type.removesuffix(suffix)
    return media_type in _LAYERS


def is_foreign(media_type: str) -> bool:
    """Whether a layer may lie elsewhere than its image.

    Examples
    --------
    >>> is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    True
    """
    return ".foreign." in media_type or ".nondistributable." in media_type


def document(data: bytes, what: str) -> Any:
    """Read bounded JSON, whatever it holds.

    Raises
    ------
    ImageError
    """
    if len(data) > MOST_DOCUMENT:
        raise ImageError(f"{what} is too long", expected=f"at most {MOST_DOCUMENT} bytes", seen="more")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ImageError(f"{what} cannot be read", expected="JSON", seen=f"{error!s:.80}") from error


def _listed(value: object, what: str) -> Listed:
    named = f"an entry in the index of {what}"
    fields = _mapping(value, named)
    notes = _mapping(fields.get("annotations") or {}, named)
    platform = fields.get("platform")
    names = (notes.get("io.containerd.image.name"), notes.get("org.opencontainers.image.ref.name"))
    return Listed(
        descriptor(value, named, MOST_DOCUMENT),
        None if platform is None else _platform(_mapping(platform, named), named),
        tuple(name for name in names if isinstance(name, str) and name),
    )


def _platform(fields: Mapping[str, Any], what: str) -> Platform:
    return Platform(
        _text(fields, "os", what) or "linux", _text(fields, "architecture", what), _text(fields, "variant", what)
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ImageError(f"{what} cannot be used", expected="a JSON object", seen=f"{value!r:.80}")
    return cast("dict[str, Any]", value)


def _list(fields: Mapping[str, Any], field: str, what: str, most: int = _MOST_MANIFESTS) -> list[Any]:
    value = fields.get(field)
    if not isinstance(value, list) or len(value) > most:
        seen = f"{len(value)}" if isinstance(value, list) else f"{value!r:.80}"
        raise ImageError(f"{what} cannot be used", expected=f"a list of at most {most} {field}", seen=seen)
    return value


def _texts(fields: Mapping[str, Any], field: str, what: str) -> tuple[str, ...]:
    value = fields.get(field)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ImageError(f"{what} cannot be used", expected=f"{field} as a list of texts", seen=f"{value!r:.80}")
    return tuple(value)


def _text(fields: Mapping[str, Any], field: str, what: str) -> str:
    value = fields.get(field, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageError(f"{what} cannot be used", expected=f"{field} as a text", seen=f"{value!r:.80}")
    return value
