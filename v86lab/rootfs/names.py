"""Names in a tree: bytes between slashes, as Linux has them.

A path is bytes without a leading slash, ``b"etc/passwd"``; the root is ``b""``. What people give may be a str (its
UTF-8, with surrogates for bytes that are no UTF-8, as `os.fsdecode` gives them) and may begin with a slash or ``./``.
"""

from __future__ import annotations

from v86lab.errors import ImageError

MOST_NAME = 255  # Linux: NAME_MAX
MOST_PATH = 4095  # Linux: PATH_MAX less the NUL


def as_bytes(text: str | bytes) -> bytes:
    """A name, path or target as bytes.

    Examples
    --------
    >>> as_bytes("\\udcff"), as_bytes("é")
    (b'\\xff', b'\\xc3\\xa9')
    """
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            pass
    raise ImageError("cannot use a name", expected="bytes, or a str that UTF-8 can write", seen=f"{text!r:.80}")


def as_text(path: bytes) -> str:
    """A path for people: absolute, as str.

    Examples
    --------
    >>> as_text(b"etc/passwd"), as_text(b"")
    ('/etc/passwd', '/')
    """
    return "/" + path.decode("utf-8", "surrogateescape")


def split(path: str | bytes, what: str = "this path") -> tuple[bytes, ...]:
    """The names that a path consists of, from the root on.

    Raises
    ------
    ImageError
        ``..``, NUL, or a name or path too long for Linux.

    Examples
    --------
    >>> split("./etc//passwd"), split("/")
    ((b'etc', b'passwd'), ())
    """
    raw = as_bytes(path)
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise ImageError(f"{what} leads out of the tree", expected="a path without ..", seen=_shown(raw))
    if b"\0" in raw:
        raise ImageError(f"{what} cannot be used", expected="no NUL", seen=_shown(raw))
    if len(raw) > MOST_PATH or any(len(part) > MOST_NAME for part in parts):
        raise ImageError(
            f"{what} is too long",
            expected=f"names of {MOST_NAME} bytes, paths of {MOST_PATH}",
            seen=f"{len(raw)} bytes",
        )
    return parts


def _shown(raw: bytes) -> str:
    return f"{raw[:80]!r}" + ("..." if len(raw) > 80 else "")


def parent(path: bytes) -> bytes:
    """The directory that a path lies in; the root's is the root.

    Examples
    --------
    >>> parent(b"etc/passwd"), parent(b"etc")
    (b'etc', b'')
    """
    return path.rpartition(b"/")[0]


def located(error: ImageError, path: bytes, what: str) -> ImageError:
    """An error that says at which path, and of what, it is.

    Examples
    --------
    >>> print(located(ImageError("cannot use a file's time", seen="10**30"), b"./etc/motd", "the tar 'base.tar'"))
    cannot use a file's time, at '/etc/motd' of the tar 'base.tar': saw 10**30
    """
    text = as_text(path.removeprefix(b"./").lstrip(b"/"))
    where = f"{text[:80]!a}" + ("..." if len(text) > 80 else "")
    return ImageError(f"{error.what}, at {where} of {what}", expected=error.expected, seen=error.seen, hint=error.hint)


def order(path: bytes) -> tuple[bytes, ...]:
    """The sort key that has a directory before what lies in it, and its entries by their bytes.

    Examples
    --------
    >>> sorted([b"a-b", b"a/c", b"a"], key=order)
    [b'a', b'a/c', b'a-b']
    """
    return tuple(path.split(b"/")) if path else ()
