"""What docker's configuration says of a registry's user: read as docker does, shown to nobody.

A password is in ``config.json`` itself (``auths``), or a program ``docker-credential-NAME`` keeps it (``credHelpers``
for a registry, ``credsStore`` for all). It is looked for only when a registry asks who we are. Whatever is wrong with
the configuration does not stop what needs no password: it is a note for the error that may follow.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v86lab.formats import MIB

from .reference import DOCKER_HUB

_HUB_KEY = "https://index.docker.io/v1/"  # docker's name for its own registry, here and towards helpers
_MOST = MIB
_PATIENCE = 30.0  # seconds for a helper; it may have to ask its own service
_IDENTITY = "<token>"  # the user name by which a helper says that the secret is an identity token


@dataclass(frozen=True)
class Credentials:
    """A user's, for one registry.

    Attributes
    ----------
    username, password : str
    identity_token : str
        In place of a password: what a token server takes.
    note : str
        Why there are none, if there could be.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    note: str = ""

    @property
    def basic(self) -> str | None:
        """The value of an Authorization header (RFC 7617), or None."""
        if not self.username or self.identity_token:
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


def find(registry: str) -> Credentials:
    """Look for a registry's credentials.

    Parameters
    ----------
    registry : str
        Host, and port if there is one.

    Examples
    --------
    >>> find("registry.invalid").basic is None
    True
    """
    try:
        path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    except RuntimeError:
        return Credentials(note="this user has no home folder")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
        settings = json.loads(data) if len(data) <= _MOST else None
    except FileNotFoundError:
        return Credentials(note=f"there is no {path}")
    except (OSError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        return Credentials(note=f"{path} cannot be read")
    key = _HUB_KEY if registry == DOCKER_HUB else registry
    helper = _table(settings, "credHelpers").get(registry) or settings.get("credsStore")
    if isinstance(helper, str) and helper:
        found = _from_helper(helper, key)
        if found.basic or found.identity_token:
            return found
    else:
        found = Credentials(note=f"{path} has none for {registry}")
    for name, entry in _table(settings, "auths").items():
        if (name == key or _host(name) == _host(key)) and isinstance(entry, dict) and entry:
            return _from_entry(entry, f"what {path} has for {registry} cannot be read")
    return found


def _table(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, dict) else {}


def _host(key: str) -> str:
    """What an entry's key names: older ones are URLs."""
    return re.sub(r"^https?://", "", key).partition("/")[0]


def _from_entry(entry: Mapping[str, Any], trouble: str) -> Credentials:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    try:
        name, _, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except (TypeError, ValueError):
        return Credentials(note=trouble)
    password = password.rstrip("\0")  # docker writes them padded
    return Credentials(name, password) if name else Credentials(note=trouble)


def _from_helper(helper: str, key: str) -> Credentials:
    """Ask a helper (docker-credential-helpers' protocol: the registry on standard input, JSON on standard output)."""
    name = f"docker-credential-{helper}"
    program = shutil.which(name) if re.fullmatch(r"[\w.-]{1,80}", helper, re.ASCII) else None
    if program is None:
        return Credentials(note=f"{name!r:.120}, which docker's configuration names, is not installed")
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=_PATIENCE, check=True)
        answer = json.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except subprocess.CalledProcessError:
        return Credentials(note=f"{name} has none for {_host(key)}")
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, RecursionError):
        return Credentials(note=f"{name} failed")
    if not isinstance(user, str) or not isinstance(secret, str):
        return Credentials(note=f"{name} failed")
    return Credentials(identity_token=secret) if user == _IDENTITY else Credentials(user, secret)
