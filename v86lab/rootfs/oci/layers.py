"""Layers, one over the other: what a container runtime does on disk, done to a `Draft`.

The rules (OCI image specification, "Image Layer Filesystem Changeset"):

* a layer is fetched only if its tar, by the digest that the configuration says, is not in the Store; it is unpacked
  while it comes, and used when both digests were right;
* whiteouts take away what lower layers put there, wherever in the layer they stand: ``.wh.name`` a file, or a directory
  with all in it; ``.wh..wh..opq`` all that lies in its directory; other names that begin with ``.wh..wh.`` are what
  aufs kept for itself;
* what is no directory replaces a directory, and a directory replaces what is none; a directory over a directory changes
  its attributes (containerd's ``archive.Apply``);
* a hard link may lead to a lower layer's file.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from v86lab.errors import DamagedBlob, ImageError, UnknownDigest
from v86lab.formats import MIB, size_text
from v86lab.progress import Progress
from v86lab.rootfs.archive import Archive
from v86lab.rootfs.content import Stored
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.names import as_text, order, split
from v86lab.rootfs.tar import Member, looks_like_tar, members
from v86lab.store import Store

from .descriptor import MOST_BLOB
from .image import Came, Layer, OciImage

_WHITEOUT, _AUFS, _OPAQUE = b".wh.", b".wh..wh.", b".wh..wh..opq"


def apply(image: OciImage, draft: Draft, store: Store) -> None:
    """Put an image's layers into a draft, the lowest first.

    Raises
    ------
    ImageError
    StoreFull, StoreReadOnly
    """
    missing = sum(layer.size for layer in image.layers if layer.diff_id not in store)
    with Progress(f"pulling {image.what}", missing) as progress:
        archives = [_known(layer, store) or _unpacked(layer, store, progress.advance) for layer in image.layers]
    for archive in archives:
        with closing(members(archive)) as found:
            lay_over(draft, found, archive.what)


def lay_over(draft: Draft, layer: Iterable[Member], what: str) -> None:
    """Put one layer into a draft.

    Parameters
    ----------
    draft : Draft
        What lower layers made.
    layer : iterable of Member
    what : str
        The layer, for errors.

    Raises
    ------
    ImageError
    """
    added: list[Member] = []
    whiteouts: list[bytes] = []
    emptied: list[bytes] = []
    for member in layer:
        names = split(member.path, f"an entry of {what}")
        whited = [name for name in names if name.startswith(_WHITEOUT)]
        if not whited:
            added.append(member)
        elif whited == [_OPAQUE] == [names[-1]]:
            emptied.append(b"/".join(names[:-1]))
        elif not any(name.startswith(_AUFS) for name in whited):
            name = names[-1].removeprefix(_WHITEOUT)
            if whited != [names[-1]] or name in (b"", b".", b".."):
                raise ImageError(
                    f"{what} has a whiteout that cannot be used",
                    expected="the name of a file after .wh.",
                    seen=f"{as_text(b'/'.join(names))!a:.100}",
                )
            whiteouts.append(b"/".join((*names[:-1], name)))
        if len(added) + len(whiteouts) + len(emptied) > draft.max_entries:
            raise ImageError(f"{what} is too big", expected=f"at most {draft.max_entries} entries", seen="more")
    # Directories first: what is below a link that this layer replaces is not below where the link led.
    folders = [b"/".join(split(one.path)) for one in added if one.inode is not None and one.inode.is_directory]
    for path in sorted(folders, key=order):
        where = draft.find(path)
        if where is not None and not draft.inodes[draft.names[where]].is_directory:
            draft.remove(path)
    for path in emptied:
        where = draft.follow(path)
        for child in [] if where is None else draft.children(where):
            draft.remove(child)
    for path in whiteouts:
        draft.remove(path)
    for member in added:
        _add(draft, member)


def _add(draft: Draft, member: Member) -> None:
    inode = member.inode
    if inode is None or not inode.is_directory:
        where = draft.find(member.path)
        if where and draft.inodes[draft.names[where]].is_directory:
            draft.remove(member.path)
    if inode is None:
        draft.hard_link(member.path, member.target)
    else:
        draft.add(member.path, inode)


def _known(layer: Layer, store: Store) -> Archive | None:
    """A layer whose tar is in the Store."""
    tar = Stored(store, layer.diff_id)
    try:
        tar.open().close()
    except (UnknownDigest, DamagedBlob):
        return None
    store.put_file(store.path(layer.diff_id), layer.diff_id)  # makes it young again
    return Archive("tar", layer.what, layer.what, tar, store.size(layer.diff_id))


def _unpacked(layer: Layer, store: Store, came: Came) -> Archive:
    """Fetch a layer and unpack it into the Store."""
    with layer.open(came) as kept:
        archive = Archive.of(kept, "tar", looks_like_tar, store, layer.what, MOST_BLOB)
        while kept.read(MIB):  # what is packed may end before its file does: all of it must be what was promised
            pass
    tar = Stored(store, layer.diff_id)
    if archive.source != tar:
        raise ImageError(
            f"{layer.what} is not what its configuration says",
            expected=f"sha256 {layer.diff_id} when unpacked",
            seen=f"another tar of {size_text(archive.size)}",
        )
    return Archive("tar", layer.what, layer.what, tar, archive.size)
