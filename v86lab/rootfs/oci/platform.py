"""Platforms that images are for, and which of an image's manifests a machine takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from v86lab.errors import ImageError
from v86lab.formats import quoted

_PART = re.compile(r"[a-z0-9_.-]{1,40}", re.ASCII)
_KNOWN_AS = {"386": "an i386 image", "amd64": "an x86-64 image", "arm64": "a 64-bit ARM image", "arm": "an ARM image"}


@dataclass(frozen=True)
class Platform:
    """Operating system, architecture and variant, by Go's names.

    Examples
    --------
    >>> Platform.parse("linux/386")
    Platform(os='linux', architecture='386', variant='')
    >>> print(Platform("linux", "arm", "v7"))
    linux/arm/v7
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture`` or ``os/architecture/variant``.

        Raises
        ------
        ImageError
        """
        parts = text.split("/") if isinstance(text, str) else []
        if not 2 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise ImageError("cannot use this platform", expected='such as "linux/386"', seen=quoted(text))
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def is_unknown(self) -> bool:
        """Whether it is a build tool's attestation: those are listed among the images, for ``unknown/unknown``."""
        return "unknown" in (self.os, self.architecture)

    def suits(self, wanted: Platform) -> bool:
        """Whether it is what is wanted; any variant will do where none is named."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and wanted.variant in ("", self.variant)

    def missing(self, what: str, there: Sequence[Platform]) -> ImageError:
        """The error of an image that is not for this platform, but for those."""
        known = [platform for platform in there if not platform.is_unknown]
        names = list(dict.fromkeys(map(str, known)))
        said, hint = f"{what} is not for {self}", "give another platform="
        if self.architecture == "386":
            hint = f'{hint} if its programs are 32-bit all the same; names that begin with "i386/" are 32-bit images'
            if len(names) == 1 and known[0].architecture in _KNOWN_AS:
                said = f"{what} cannot be used: this is {_KNOWN_AS[known[0].architecture]}; v86 runs i386"
        return ImageError(said, expected=str(self), seen=", ".join(names) or "no platform at all", hint=hint)
