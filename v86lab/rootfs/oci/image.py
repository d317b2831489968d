"""An image for one platform: its configuration, and its layers ready to be read.

Wherever it comes from (`registry`, `layout`), an image is found the same way: from a manifest, or through indexes to
the one for the platform. Each document is checked against the digest that led to it and kept in the Store, so that an
image named by digest that was pulled before needs nobody's help. Tags are asked for each time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol, TypeAlias, cast

from v86lab.errors import DamagedBlob, ImageError, UnknownDigest
from v86lab.formats import MIB
from v86lab.store import Store

from . import manifest
from .descriptor import Checked, Descriptor
from .manifest import Listed, Manifest, OciConfig
from .platform import Platform

Came: TypeAlias = Callable[[int], object]
"""Told of each number of bytes that came."""

_MOST_INDEXES = 4  # one inside the other; two are usual in layouts


class Origin(Protocol):
    """Where an image lies.

    Attributes
    ----------
    what : str
        The image, for errors.
    """

    what: str

    def open(self, descriptor: Descriptor, /) -> BinaryIO:
        """The bytes of a manifest or blob, not checked yet."""
        ...


@dataclass(frozen=True)
class Layer:
    """A layer, as it is kept.

    Attributes
    ----------
    what : str
        For errors.
    diff_id : str
        The sha256, in hex, of its tar once unpacked.
    size : int
        Bytes as it is kept.
    open : callable
        Gives its bytes as they are kept, checked at their end; takes who is told how many came.
    """

    what: str
    diff_id: str
    size: int
    open: Callable[[Came | None], BinaryIO]


@dataclass(frozen=True)
class OciImage:
    """An image for one platform."""

    what: str
    config: OciConfig
    layers: tuple[Layer, ...]


def found(
    origin: Origin, document: Manifest | tuple[Listed, ...], digest: str, platform: Platform, store: Store
) -> OciImage:
    """Find the image for a platform.

    Parameters
    ----------
    origin : Origin
    document : Manifest or tuple of Listed
        The manifest or index to begin with.
    digest : str
        Its sha256 in hex.
    platform : Platform
    store : Store

    Raises
    ------
    ImageError
        There is none, or what is said of it does not hold.
    """
    for _ in range(_MOST_INDEXES + 1):
        if isinstance(document, Manifest):
            return _image(origin, document, digest, platform, store)
        entry = _choice(document, origin.what, platform)
        data = _fetched(origin, entry, f"the manifest of {origin.what}", store)
        document, digest = manifest.read(data, origin.what, entry.media_type), entry.digest
    raise ImageError(
        f"{origin.what} has indexes inside indexes", expected=f"at most {_MOST_INDEXES}, then a manifest", seen="more"
    )


def _fetched(origin: Origin, descriptor: Descriptor, what: str, store: Store) -> bytes:
    """The bytes of a document, from the Store if they are there."""
    try:
        return store.get(descriptor.digest)
    except (UnknownDigest, DamagedBlob):
        pass
    with Checked(origin.open(descriptor), what, descriptor.digest, descriptor.size) as stream:
        data = stream.readall()
    store.put(data)
    return data


def with_layers(
    what: str, config: OciConfig, sizes: Sequence[int], opened: Callable[[int, str, Came | None], BinaryIO]
) -> OciImage:
    """Put an image together: `opened` gives the layer of a number, with its name for errors."""
    if len(config.diff_ids) != len(sizes):
        raise ImageError(
            f"{what} does not agree with itself",
            expected=f"{len(config.diff_ids)} layers, as its configuration says",
            seen=f"{len(sizes)}",
        )
    layers = []
    for number, (diff_id, size) in enumerate(zip(config.diff_ids, sizes, strict=True)):
        named = f"layer {number + 1} of {what}"

        def open_(came: Came | None, number: int = number, named: str = named) -> BinaryIO:
            return opened(number, named, came)

        layers.append(Layer(named, diff_id, size, open_))
    return OciImage(what, config, tuple(layers))


def _image(origin: Origin, document: Manifest, digest: str, platform: Platform, store: Store) -> OciImage:
    config = manifest.config(
        _fetched(origin, document.config, f"the configuration of {origin.what}", store), origin.what
    )
    if not config.platform.suits(platform):
        raise platform.missing(origin.what, [config.platform])

    def opened(number: int, what: str, came: Came | None) -> BinaryIO:
        layer = document.layers[number]
        checked = Checked(origin.open(layer), what, layer.digest, layer.size, came=came)
        return cast("BinaryIO", io.BufferedReader(checked, MIB))

    sizes = [layer.size for layer in document.layers]
    return with_layers(origin.what, replace(config, digest=digest), sizes, opened)


def _choice(entries: Sequence[Listed], what: str, platform: Platform) -> Descriptor:
    """The entry of an index that is for a platform: one without a variant before others, then the first."""
    said = [(entry.descriptor, entry.platform) for entry in entries if entry.platform is not None]
    suitable = [(one.variant != platform.variant, descriptor) for descriptor, one in said if one.suits(platform)]
    if suitable:
        return min(suitable, key=lambda pair: pair[0])[1]
    unsaid = [entry.descriptor for entry in entries if entry.platform is None]
    if len({descriptor.digest for descriptor in unsaid}) == 1:
        return unsaid[0]  # of a layout: the manifest's configuration says what it is for
    raise platform.missing(what, [one for _, one in said])
