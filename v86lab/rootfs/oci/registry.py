"""A repository of a registry, read over HTTP (the OCI distribution specification, docker's token authentication).

The rules:

* TLS, except with a registry of this computer itself, or where the caller said ``insecure``; a redirection does not
  lead from TLS to plain HTTP;
* credentials are looked for only when the registry asks, and go to it and to the token server it names, never to where
  a redirection leads; no error says them;
* a blob that breaks off goes on from where it was (its digest says what it must be); what comes is not believed here:
  whoever reads checks it (`descriptor`).
"""

from __future__ import annotations

import http.client
import io
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import BinaryIO, cast

from v86lab.download import Body, Refused, is_loopback, open_url, origin
from v86lab.errors import ImageError
from v86lab.formats import MIB, quoted

from .credentials import Credentials, find
from .descriptor import Descriptor
from .manifest import INDEXES, MANIFESTS, MOST_DOCUMENT, is_foreign
from .reference import Reference

_ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')
_SCHEME = re.compile(r"([A-Za-z0-9-]+)(?:\s+|$)")


class Repository:
    """One repository, whose manifests and blobs can be read.

    Parameters
    ----------
    reference : Reference
    insecure : bool, optional
        Whether to speak plain HTTP. Default: only with this computer itself.
    """

    def __init__(self, reference: Reference, insecure: bool | None = None) -> None:
        self.what = f"the image {reference}"
        self._reference = reference
        self._insecure = insecure
        plain = reference.on_loopback if insecure is None else insecure
        self._base = f"{'http' if plain else 'https'}://{reference.host}/v2/{reference.repository}/"
        self._failed = f"cannot pull {reference}"
        self._credentials: Credentials | None = None
        self._authorization: str | None = None

    def root(self) -> tuple[str, bytes]:
        """What the reference names: the media type that the registry says, and the bytes.

        Raises
        ------
        ImageError
        """
        response = self._get(f"manifests/{self._reference.digest or self._reference.tag}", {"Accept": _ACCEPT})
        said = response.headers.get_content_type()
        with Body(self._failed, response, MOST_DOCUMENT) as body:
            data = body.readall()
        return said if said in INDEXES | MANIFESTS else "", data

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """The bytes of a manifest or blob, as they come.

        Raises
        ------
        ImageError
        """
        if descriptor.media_type in INDEXES | MANIFESTS:
            path, headers = f"manifests/{descriptor.oci_digest}", {"Accept": descriptor.media_type}
        else:
            path, headers = f"blobs/{descriptor.oci_digest}", {}
        try:
            response = self._get(path, headers)
        except ImageError as error:
            if is_foreign(descriptor.media_type):
                raise ImageError(
                    self._failed,
                    expected="all layers in the registry",
                    seen=f"one that lies elsewhere ({descriptor.oci_digest[:19]}…)",
                    hint="such layers may not be redistributed, and are not looked for",
                ) from error
            raise

        def again(offset: int) -> http.client.HTTPResponse:
            return self._get(path, {**headers, "Range": f"bytes={offset}-"})

        body = Body(self._failed, response, descriptor.size, total=descriptor.size, again=again)
        return cast("BinaryIO", io.BufferedReader(body, MIB))

    def _get(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        for last in (False, True):
            known = {} if self._authorization is None else {"Authorization": self._authorization}
            try:
                response = open_url(self._failed, self._base + path, {**headers, **known})
            except Refused as refused:
                # A host that we were sent on to is not the registry: its demands are not answered.
                ours = origin(refused.url) == origin(self._base)
                if refused.status == 401 and ours and not last and self._log_in(refused):
                    continue
                raise self._explained(refused) from refused
            if self._base.startswith("https:") and not response.url.startswith("https:"):
                response.close()
                raise ImageError(self._failed, expected="TLS all the way", seen="a redirection to plain HTTP")
            return response
        raise AssertionError("unreachable")

    def _log_in(self, refused: Refused) -> bool:
        """Do what the registry asks for before it answers; False when we cannot."""
        if self._credentials is None:
            self._credentials = find(self._reference.registry)
        for scheme, parameters in _challenges(refused.headers.get_all("WWW-Authenticate") or []):
            if scheme == "bearer" and "realm" in parameters:
                self._authorization = "Bearer " + self._token(parameters, self._credentials)
                return True
            if scheme == "basic" and self._credentials.basic is not None:
                self._authorization = self._credentials.basic
                return True
        return False

    def _token(self, parameters: dict[str, str], credentials: Credentials) -> str:
        """Get a token where the registry says (distribution: "Token Authentication Specification")."""
        realm = parameters["realm"]
        self._check_realm(realm)
        form = {"scope": parameters.get("scope") or f"repository:{self._reference.repository}:pull"}
        if "service" in parameters:
            form["service"] = parameters["service"]
        headers: dict[str, str] = {}
        data = None
        if credentials.identity_token:
            form |= {"grant_type": "refresh_token", "client_id": "v86lab", "refresh_token": credentials.identity_token}
            data = urllib.parse.urlencode(form).encode("ascii")
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            realm += ("&" if "?" in realm else "?") + urllib.parse.urlencode(form)
            if credentials.basic is not None:
                headers["Authorization"] = credentials.basic
        try:
            response = open_url(self._failed, realm, headers, data)
        except Refused as refused:
            raise self._explained(refused) from refused
        with Body(self._failed, response, MIB) as body:
            answer = body.readall()
        try:
            fields = json.loads(answer)
            token = fields.get("token") or fields.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ImageError(self._failed, expected="a token from the registry's token server", seen="another answer")
        return token

    def _check_realm(self, realm: str) -> None:
        try:
            scheme, host, _ = origin(realm)
        except ValueError:
            scheme, host = "", ""
        plain_is_fine = self._base.startswith("http:") and (self._insecure or is_loopback(host))
        if scheme != "https" and not (scheme == "http" and plain_is_fine):
            raise ImageError(
                self._failed, expected="a token server that is reached by https", seen=f"{scheme!r:.20} of {host!r:.80}"
            )

    def _explained(self, refused: Refused) -> ImageError:
        """What a refusal means to whoever wants an image."""
        expected, hint = "an answer with the image", refused.hint
        if refused.status == 404:
            expected, hint = "an image of this name", "check the name and the tag"
        elif refused.status in (401, 403):
            note = f" ({self._credentials.note})" if self._credentials is not None and self._credentials.note else ""
            expected = "permission to pull it"
            hint = f"check the name; if it is private, `docker login {self._reference.registry}` keeps the user{note}"
        seen = ": ".join([refused.seen or "", *_reasons(refused.body)])
        return ImageError(self._failed, expected=expected, seen=seen, hint=hint)


def _challenges(headers: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Schemes and their parameters (RFC 9110, 11.6.1), from WWW-Authenticate headers."""
    for header in headers:
        at = 0
        while match := _SCHEME.match(header, at):
            at = match.end()
            parameters: dict[str, str] = {}
            while found := _PARAMETER.match(header, at):
                at = found.end()
                value = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
                parameters[found[1].lower()] = value
            yield match[1].lower(), parameters


def _reasons(body: bytes) -> Iterator[str]:
    """What a registry says of a refusal (distribution specification, "Error Codes"), cut."""
    try:
        errors = json.loads(body)["errors"]
        for error in errors[:3]:
            yield quoted(f"{error['code']}: {error.get('message', '')}", 120)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return
