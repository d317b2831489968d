"""Names of images in registries, as people write them and as docker reads them.

``alpine`` is ``docker.io/library/alpine:latest``: what comes before the first slash is a registry only if it could be a
host (it has a dot, a colon or a capital letter, or is ``localhost``); the grammar is that of the distribution project's
``reference`` package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from v86lab.download import is_loopback
from v86lab.errors import ImageError
from v86lab.formats import quoted

DOCKER_HUB = "docker.io"
_SERVED_BY = {DOCKER_HUB: "registry-1.docker.io"}  # the one registry that answers elsewhere than at its name

_MOST = 255  # bytes of a name
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::\d{{1,5}})?", re.ASCII)
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    Attributes
    ----------
    registry : str
        Host, and port if there is one.
    repository : str
    tag : str
        "" when only a digest was given.
    digest : str
        "sha256:...", or "". It decides when there is a tag as well.

    Examples
    --------
    >>> print(Reference.parse("i386/alpine:3.20"))
    docker.io/i386/alpine:3.20
    >>> print(Reference.parse("alpine"), Reference.parse("localhost:5000/x"))
    docker.io/library/alpine:latest localhost:5000/x:latest
    """

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name.

        Raises
        ------
        ImageError
            It is none.
        """
        name, at, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        if slash and (re.search(r"[.:A-Z]", first) or first == "localhost"):
            registry = DOCKER_HUB if first == "index.docker.io" else first
        else:
            registry, rest = DOCKER_HUB, name
        repository, colon, tag = rest.partition(":")
        if registry == DOCKER_HUB and "/" not in repository:
            repository = "library/" + repository
        sound = (
            len(name) <= _MOST
            and _HOST.fullmatch(registry)
            and _REPOSITORY.fullmatch(repository)
            and (not colon or _TAG.fullmatch(tag))
            and (not at or _DIGEST.fullmatch(digest))
        )
        if not sound:
            raise ImageError(
                f"cannot use {quoted(text)} as the name of an image",
                expected='a name such as "i386/alpine:3.20", "ghcr.io/owner/name:tag" or "name@sha256:...", '
                "or the path of an image",
                seen=_fault(text, repository, digest),
            )
        return cls(registry, repository, tag or ("" if digest else "latest"), digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def host(self) -> str:
        """Who serves it: host, and port if there is one."""
        return _SERVED_BY.get(self.registry, self.registry)

    @property
    def on_loopback(self) -> bool:
        """Whether this computer serves it itself."""
        return is_loopback(re.sub(r":\d+$", "", self.host))


def _fault(text: str, repository: str, digest: str) -> str:
    if "://" in text:
        return "a URL: leave out what comes before the host"
    if repository.lower() != repository:
        return "capital letters in the name of a repository"
    if digest and not _DIGEST.fullmatch(digest):
        return f"the digest {quoted(digest, 80)}"
    return "neither"
