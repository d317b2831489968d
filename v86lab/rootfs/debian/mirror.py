"""A mirror of Debian packages: one line of apt's sources, and what its Release file says of a suite.

The line is apt's one-line style (sources.list(5)); http, https, file and copy are known. A Release file is only looked
at here, for early and plain errors and for its date: apt checks signatures and hashes.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from v86lab.download import Body, Refused, is_loopback, open_url
from v86lab.errors import ImageError
from v86lab.formats import MIB, quoted

ARCHITECTURE = "i386"
DEBIAN = "http://deb.debian.org/debian"
SNAPSHOT = "http://snapshot.debian.org/archive/debian/{timestamp}/"

ABSENT = (403, 404, 410)
"""How servers say that a file is not there."""

_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\[\]]*)\]\s+)?(?P<url>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)\s*"
)
_MOST_RELEASE = 4 * MIB


@dataclass(frozen=True)
class Mirror:
    """One line of apt's sources.

    Attributes
    ----------
    url : str
        Without a slash at its end.
    suite : str
        Such as "bookworm"; ends with a slash for a repository without ``dists``.
    components : tuple of str
        Such as "main".
    options : str
        What stands in brackets: ``trusted=yes``, ``signed-by=/a/key.gpg``.

    Examples
    --------
    >>> mirror = Mirror.parse("http://deb.debian.org/debian/", "bookworm", ["main"])
    >>> mirror.line()
    'deb http://deb.debian.org/debian bookworm main'
    >>> Mirror.parse("deb [trusted=yes] file:/srv/debs ./", "bookworm", ["main"]).suite
    './'
    """

    url: str
    suite: str
    components: tuple[str, ...]
    options: str = ""

    @classmethod
    def parse(cls, text: str, suite: str, components: Sequence[str]) -> Mirror:
        """A mirror from its address, or from a whole ``deb`` line that names suite and components itself.

        Raises
        ------
        ImageError
        """
        what = f"cannot use the mirror {quoted(text)}"
        given = cls(text.strip(), suite, tuple(components))
        if text.strip().startswith("deb"):
            match = _LINE.fullmatch(text.strip())
            if match is None or "\n" in text.strip():
                raise ImageError(what, expected="deb [options] address suite component ...", seen="something else")
            given = cls(
                match["url"],
                match["suite"],
                tuple(match["components"].split()),
                " ".join((match["options"] or "").split()),
            )
        if re.search(r"[\x00-\x20\x7f]|[^\x00-\x7f]", given.url):
            raise ImageError(what, expected="an address without spaces", seen=quoted(given.url))
        parts = urlsplit(given.url)
        if parts.scheme not in ("http", "https", "file", "copy") or (not parts.path and not parts.netloc):
            raise ImageError(
                what,
                expected='an address that begins with http:, https:, file: or copy:, or a "deb ..." line',
                seen=quoted(given.url),
            )
        if given.suite.endswith("/") == bool(given.components):
            raise ImageError(what, expected="components, or a suite that ends with a slash", seen=given.line())
        return replace(given, url=given.url.rstrip("/"))

    def line(self, url: str | None = None) -> str:
        """The line as apt reads it; `url` in place of the mirror's own."""
        options = f"[{self.options}] " if self.options else ""
        return " ".join([f"deb {options}{url or self.url} {self.suite}", *self.components])

    @property
    def is_local(self) -> bool:
        """Whether only this computer can reach it, so that a guest cannot."""
        return self.folder is not None or is_loopback(urlsplit(self.url).hostname or "")

    @property
    def folder(self) -> Path | None:
        """The folder of a file: or copy: mirror."""
        parts = urlsplit(self.url)
        return Path(url2pathname(parts.path)) if parts.scheme in ("file", "copy") else None

    def address(self, path: str) -> str:
        """The address of a file of this mirror; `path` is quoted as in a URL."""
        return f"{self.url}/{path}"

    def file(self, path: str) -> Path | None:
        """The file that a path of a file: or copy: mirror means, if it lies in its folder."""
        folder = self.folder
        if folder is None:
            return None
        parts = unquote(path).split("/")
        return None if ".." in parts or "\0" in path else folder.joinpath(*(part for part in parts if part))


@dataclass(frozen=True)
class Release:
    """What a suite says of itself.

    Attributes
    ----------
    date : datetime, optional
    architectures, components : tuple of str
        Empty where it does not say.
    """

    date: datetime | None
    architectures: tuple[str, ...]
    components: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Release:
        """A Release or InRelease file's fields.

        Examples
        --------
        >>> Release.parse("Date: Sat, 10 Jun 2023 08:53:33 UTC\\nArchitectures: all amd64 i386\\nComponents: main").date
        datetime.datetime(2023, 6, 10, 8, 53, 33, tzinfo=datetime.timezone.utc)
        """
        fields = dict(re.findall(r"^(Date|Architectures|Components): *(.*?) *$", text, re.MULTILINE))
        try:
            date = email.utils.parsedate_to_datetime(fields["Date"]) if "Date" in fields else None
        except ValueError:
            date = None
        if date is not None:
            date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        # "updates/main" is how the security archive wrote its components
        components = tuple(name.rpartition("/")[2] for name in fields.get("Components", "").split())
        return cls(date, tuple(fields.get("Architectures", "").split()), components)


def release(mirror: Mirror) -> Release | None:
    """Look at a mirror's suite; None where a repository needs no Release file and has none.

    Raises
    ------
    ImageError
        The mirror does not answer, or has no such suite, component or i386 packages.
    """
    what = f"cannot install from {quoted(mirror.url)}"
    flat = mirror.suite.endswith("/")
    folder = mirror.suite.strip("/").removeprefix(".").strip("/") if flat else f"dists/{mirror.suite}"
    for name in ("InRelease", "Release"):
        text = _text(mirror, "/".join(part for part in (quote(folder), name) if part), what)
        if text is not None:
            found = Release.parse(text)
            break
    else:
        if "trusted=yes" in mirror.options.replace(" ", ""):
            return None
        raise ImageError(
            f"{what}: it has no suite {quoted(mirror.suite)}",
            expected='a suite that it has, such as "bookworm" or "trixie"',
            seen="no Release file",
            hint="suite= is a release's code name; releases that are no longer supported are on archive.debian.org",
        )
    if found.architectures and not {ARCHITECTURE, "all"} & set(found.architectures):
        raise ImageError(
            f"{what}: {quoted(mirror.suite)} has no packages for i386, which is what v86 runs",
            expected="i386 among its architectures",
            seen=" ".join(found.architectures)[:200],
            hint='Debian has them in "bookworm" and "trixie"',
        )
    stray = [name for name in mirror.components if found.components and name not in found.components]
    if stray and not flat:
        raise ImageError(
            f"{what}: {quoted(mirror.suite)} has no component {quoted(stray[0])}",
            expected=", ".join(found.components)[:200],
            seen=stray[0],
        )
    return found


def _text(mirror: Mirror, path: str, what: str) -> str | None:
    """A small text file of a mirror, or None."""
    file = mirror.file(path)
    if file is not None:
        try:
            with file.open("rb") as opened:
                return opened.read(_MOST_RELEASE).decode("utf-8", "replace")
        except FileNotFoundError:
            if mirror.folder is None or not mirror.folder.is_dir():
                raise ImageError(what, expected="a folder", seen="none", hint="check the address") from None
            return None
        except OSError as error:
            raise ImageError(what, expected="a file that can be read", seen=str(error)) from error
    try:
        with closing(Body(what, open_url(what, mirror.address(path)), _MOST_RELEASE)) as body:
            return (body.readall() or b"").decode("utf-8", "replace")
    except Refused as refused:
        if refused.status in ABSENT:
            return None
        raise
