from __future__ import annotations

import base64
import gzip
import json
import os
import ssl
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import registries
import zstandard
from registries import AMD64, DOCKER, I386, INDEX, LAYER, MANIFEST, Front, Made, Server, layer, sha256

from v86lab import download
from v86lab.errors import ImageError
from v86lab.rootfs.oci import credentials, layers, manifest, oci, oci_config
from v86lab.rootfs.oci.reference import Reference
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store

BASE = layer("./", "./etc/", ("./etc/motd", b"hello\n"), ("./etc/alias", "== ./etc/motd"), ("./bin", "-> usr/bin"))
OVER = layer(("etc/issue", b"an example\n"), ("usr/bin/true", b"\x7fELF"), "etc/.wh.alias")
BASIC = "Basic " + base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No docker configuration of this computer's user, no long pauses."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.01, 0.02))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", shared=[])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with registries.docker_registry(tmp_path_factory.mktemp("plain") / "registry") as server:
        yield server


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with registries.docker_registry(tmp_path_factory.mktemp("private") / "registry", BASIC) as server:
        yield server


@pytest.fixture
def front(plain: Server) -> Iterator[Front]:
    with registries.front(plain) as server:
        yield server


def log_in(tmp_path: Path, host: str, **settings: Any) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    auth = base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()
    (tmp_path / "docker" / "config.json").write_text(json.dumps(settings or {"auths": {host: {"auth": auth}}}))


def trees(*tars: bytes, store: Store, folder: Path, **how: Any) -> RootFS:
    """What these layers, lowest first, make."""
    made = Made()
    return oci(made.layout(folder / "layout", made.image(*tars, **how)), store=store)


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("i386/alpine:3.20", "docker.io/i386/alpine:3.20"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/i386/alpine", "docker.io/i386/alpine:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:tag", "localhost:5000/x:tag"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("Registry/x", "Registry/x:latest"),
        ("ghcr.io/owner/a__b/c-d.e@sha256:" + "0" * 64, "ghcr.io/owner/a__b/c-d.e@sha256:" + "0" * 64),
        ("example.org/x:1@sha256:" + "0" * 64, "example.org/x:1@sha256:" + "0" * 64),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, canonical: str) -> None:
    assert str(Reference.parse(text)) == canonical and str(Reference.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "neither"),
        ("Alpine", "capital letters"),
        ("docker://alpine", "a URL"),
        ("https://example.org/x", "a URL"),
        ("x:", "neither"),
        ("x:" + "a" * 129, "neither"),
        ("x@sha256:abc", "the digest 'sha256:abc'"),
        ("x@sha512:" + "0" * 128, "the digest"),
        ("a..b/../x", "neither"),
        ("example.org/", "neither"),
        ("x/../../y", "neither"),
        ("a" * 300, "neither"),
        ("exa mple.org/x", "neither"),
        ("user@example.org/x", "the digest"),
        ("x\n", "neither"),
    ],
)
def test_what_is_no_name_is_refused(text: str, seen: str) -> None:
    with pytest.raises(ImageError, match=f"as the name of an image.*saw {seen}"):
        Reference.parse(text)


def test_only_this_computers_own_registry_is_spoken_to_in_plain_http() -> None:
    local = ("localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "127.1.2.3/x", "[::1]:5000/x")
    assert all(Reference.parse(text).on_loopback for text in local)
    other = ("x", "localhost.example.org/x", "10.0.0.1:5000/x", "127.0.0.1.example.org/x")
    assert not any(Reference.parse(text).on_loopback for text in other)


# ---- a real registry ------------------------------------------------------------------------------------------------


def test_an_image_comes_from_a_registry(plain: Server, store: Store) -> None:
    made = Made()
    made.image(BASE, OVER, Entrypoint=["/bin/init"], Cmd=["-v"], Env=["A=b"], WorkingDir="/root", User="1000")
    name = made.push(plain, "a/b", "one")
    tree = oci(name, store=store)
    assert tree.name == name
    assert tree.paths() == ["/", "/bin", "/etc", "/etc/issue", "/etc/motd", "/usr", "/usr/bin", "/usr/bin/true"]
    assert tree.read("/bin/true") == b"\x7fELF" and tree.read("/etc/motd") == b"hello\n"
    config = oci_config(name, store=store)
    assert (config.entrypoint, config.cmd, config.env) == (("/bin/init",), ("-v",), ("A=b",))
    assert (config.working_dir, config.user, config.digest) == ("/root", "1000", made.root)


def test_of_an_index_the_platforms_own_image_is_taken(plain: Server, store: Store) -> None:
    made = Made()
    amd64 = made.image(layer(("arch", b"amd64")), platform=AMD64)
    variant = made.image(layer(("arch", b"386 with sse2")), platform=I386 | {"variant": "sse2"})
    i386 = made.image(layer(("arch", b"386")))
    proof = made.image(layer("proof"), platform={"os": "unknown", "architecture": "unknown"})
    made.index(amd64, proof, variant, i386)
    name = made.push(plain, "many", "latest")
    assert oci(name, store=store).read("/arch") == b"386"
    assert oci(name, platform="linux/386/sse2", store=store).read("/arch") == b"386 with sse2"
    assert oci(name, platform="linux/amd64", store=store).read("/arch") == b"amd64"
    with pytest.raises(ImageError, match=r"is not for linux/arm64: .*saw linux/amd64, linux/386/sse2, linux/386\."):
        oci(name, platform="linux/arm64", store=store)
    made.index(amd64, variant, media_type=DOCKER + "distribution.manifest.list.v2+json")
    assert oci(made.push(plain, "many", "variant"), store=store).read("/arch") == b"386 with sse2"


def test_a_64_bit_image_says_what_it_is_and_what_there_is(plain: Server, store: Store) -> None:
    made = Made()
    amd64 = made.image(BASE, platform=AMD64)
    name = made.push(plain, "wide", "latest")
    with pytest.raises(ImageError, match=r"this is an x86-64 image; v86 runs i386: .*, saw linux/amd64\."):
        oci(name, store=store)
    made.index(amd64, made.image(BASE, platform={"os": "unknown", "architecture": "unknown"}))
    with pytest.raises(ImageError, match=r"this is an x86-64 image; v86 runs i386: .*, saw linux/amd64\."):
        oci(made.push(plain, "wide", "index"), store=store)
    assert oci(name, platform="linux/amd64", store=store).read("/etc/motd") == b"hello\n"


def test_an_image_by_digest_needs_nobody_once_it_was_pulled(tmp_path: Path, store: Store) -> None:
    made = Made()
    made.index(made.image(BASE))
    with registries.docker_registry(tmp_path / "registry") as server:
        name = made.push(server, "kept", "latest").removesuffix(":latest") + "@sha256:" + made.root
        tree = oci(name, store=store)
    assert oci(name, store=store).digest == tree.digest
    with pytest.raises(ImageError, match=r"cannot pull .*Connection refused"):
        oci(name.partition("@")[0], store=store)


def test_what_the_registry_does_not_have_is_named(plain: Server, store: Store) -> None:
    with pytest.raises(ImageError, match=r"cannot pull .*/none:1: .*name, saw 404.*MANIFEST_UNKNOWN.*check the name"):
        oci(f"127.0.0.1:{plain.port}/none:1", store=store)


def test_a_private_registry_asks_and_dockers_configuration_answers(
    private: Server, tmp_path: Path, store: Store
) -> None:
    made = Made()
    made.image(BASE)
    name = made.push(private, "secret", "latest")
    with pytest.raises(ImageError, match=r"saw 401.*docker login 127\.0\.0\.1.*there is no .*config\.json") as caught:
        oci(name, store=store)
    log_in(tmp_path, f"127.0.0.1:{private.port}")
    assert oci(name, store=store).read("/etc/motd") == b"hello\n"
    log_in(tmp_path, "", auths={f"http://127.0.0.1:{private.port}/v1/": {"auth": base64.b64encode(b"a:b").decode()}})
    with pytest.raises(ImageError, match="saw 401") as caught:
        oci(name, store=Store(tmp_path / "other"))
    assert base64.b64encode(b"a:b").decode() not in str(caught.value)


def test_a_credential_helper_is_asked(
    private: Server, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made()
    made.image(BASE)
    name = made.push(private, "helped", "latest")
    host = f"127.0.0.1:{private.port}"
    log_in(tmp_path, "", credHelpers={host: "test"}, credsStore="missing")
    with pytest.raises(ImageError, match=r"docker-credential-test.*is not installed"):
        oci(name, store=store)
    answer = json.dumps({"ServerURL": host, "Username": registries.USER, "Secret": registries.PASSWORD})
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f"""#!/bin/sh\nread host\n[ "$1 $host" = "get {host}" ] && echo '{answer}'\n""")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert oci(name, store=store).read("/etc/motd") == b"hello\n"
    log_in(tmp_path, "", credsStore="test")
    assert credentials.find(host).basic == BASIC
    assert registries.PASSWORD not in repr(credentials.find(host))
    helper.write_text("""#!/bin/sh\necho '{"Username": "<token>", "Secret": "long-lived"}'\n""")
    assert credentials.find(host).identity_token == "long-lived" and credentials.find(host).basic is None
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain\nexit 1\n")
    assert credentials.find(host).note == f"docker-credential-test has none for {host}"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (" " * (1 << 21), "cannot be read"),
        ('{"auths": []}', "has none for"),
        ('{"auths": {"example.org": {"auth": "!"}}}', "cannot be read"),
        ('{"auths": {"example.org": {"auth": 7}}}', "cannot be read"),
        ('{"credsStore": "../../evil"}', "is not installed"),
    ],
)
def test_a_strange_configuration_of_docker_is_a_note(tmp_path: Path, text: str, note: str) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(text)
    found = credentials.find("example.org")
    assert found.basic is None and note in found.note


def test_a_registrys_key_is_its_host_or_a_url_of_it(tmp_path: Path) -> None:
    log_in(tmp_path, "https://index.docker.io/v1/")
    assert credentials.find("docker.io").basic == BASIC
    assert credentials.find("example.org").basic is None
    for key in ("example.org", "https://example.org", "https://example.org/v1/"):
        log_in(tmp_path, key)
        assert credentials.find("example.org").basic == BASIC
        assert credentials.find("example.org:5000").basic is None


# ---- tokens, redirections, trouble ----------------------------------------------------------------------------------


def wants_token(front: Front, scope: str, check: str | None = None) -> None:
    """Have a front serve only who has a token, and give tokens to who passes the check."""

    def act(request: registries.Asked) -> bool:
        if request.path.startswith("/token"):
            if check is not None and request.headers.get("Authorization", getattr(request, "body", b"")) != check:
                return request.json(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]})
            return request.json(200, {"access_token": "good"})
        if request.headers.get("Authorization") == "Bearer good":
            return False
        realm = f"http://127.0.0.1:{front.server_port}/token?x=1"
        challenge = f'Digest realm="no", Bearer realm="{realm}",service="a, b",scope="{scope}"'
        return request.json(401, {"errors": [{"code": "UNAUTHORIZED"}]}, WWW_Authenticate=challenge)

    front.act = act


def test_a_token_is_fetched_where_the_registry_says(plain: Server, front: Front, tmp_path: Path, store: Store) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "token", "latest")
    wants_token(front, "repository:token:pull")
    name = f"127.0.0.1:{front.server_port}/token"
    assert oci(name, store=store).read("/etc/motd") == b"hello\n"
    assert front.paths("/token?") == ["/token?x=1&scope=repository%3Atoken%3Apull&service=a%2C+b"]
    wants_token(front, "repository:token:pull", check=BASIC)
    with pytest.raises(ImageError, match=r"saw 401 Unauthorized: 'UNAUTHORIZED: who are you\?'"):
        oci(name, store=Store(tmp_path / "second"))
    log_in(tmp_path, f"127.0.0.1:{front.server_port}")
    assert oci(name, store=Store(tmp_path / "third")).read("/etc/motd") == b"hello\n"


def test_an_identity_token_buys_a_token(plain: Server, front: Front, tmp_path: Path, store: Store) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "identity", "latest")
    log_in(tmp_path, "", auths={f"127.0.0.1:{front.server_port}": {"identitytoken": "long-lived"}})
    form = "scope=s&service=a%2C+b&grant_type=refresh_token&client_id=v86lab&refresh_token=long-lived"
    wants_token(front, "s", check=form.encode())  # type: ignore[arg-type]
    assert oci(f"127.0.0.1:{front.server_port}/identity", store=store).read("/etc/motd") == b"hello\n"


@pytest.mark.parametrize("realm", ["http://example.org/token", "ftp://127.0.0.1/", "//x", "http://[", ""])
def test_a_token_server_elsewhere_is_reached_by_tls_only(front: Front, store: Store, realm: str) -> None:
    front.act = lambda request: request.json(401, {}, WWW_Authenticate=f'Bearer realm="{realm}"')
    with pytest.raises(ImageError, match="expected a token server that is reached by https"):
        oci(f"127.0.0.1:{front.server_port}/x", store=store)


def test_credentials_stay_with_the_registry_when_it_sends_on(
    plain: Server, front: Front, tmp_path: Path, store: Store
) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "sent", "latest")
    with registries.front(plain) as elsewhere:

        def act(request: registries.Asked) -> bool:
            if request.headers.get("Authorization") != BASIC:
                return request.json(401, {}, WWW_Authenticate='Basic realm="x"')
            if "/blobs/" not in request.path:
                return False
            return request.json(307, {}, Location=f"http://127.0.0.1:{elsewhere.server_port}{request.path}")

        front.act = act
        log_in(tmp_path, f"127.0.0.1:{front.server_port}")
        name = f"127.0.0.1:{front.server_port}/sent"
        assert oci(name, store=store).read("/etc/motd") == b"hello\n"
        assert len(elsewhere.asked) == 2 and not any("Authorization" in headers for _, headers in elsewhere.asked)
        realm = f"http://127.0.0.1:{elsewhere.server_port}/token"
        elsewhere.act = lambda request: request.json(401, {}, WWW_Authenticate=f'Bearer realm="{realm}"')
        with pytest.raises(ImageError, match="saw 401"):
            oci(name, store=Store(tmp_path / "second"))
        assert not any("Authorization" in headers for _, headers in elsewhere.asked)


def test_a_redirection_does_not_lead_from_tls_to_plain_http(
    front: Front, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*openssl.split(), *more], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with registries.front(front.behind) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        name = f"localhost:{secure.server_port}/x"
        with pytest.raises(ImageError, match="saw 404"):
            oci(name, store=store, insecure=False)
        elsewhere = f"http://127.0.0.1:{front.server_port}"
        secure.act = lambda request: request.json(307, {}, Location=elsewhere + request.path)
        front.act = lambda request: request.json(200, {})
        with pytest.raises(ImageError, match="expected TLS all the way, saw a redirection to plain HTTP"):
            oci(name, store=store, insecure=False)


def test_a_blob_that_breaks_off_goes_on_where_it_was(plain: Server, front: Front, store: Store) -> None:
    made = Made()
    data = bytes(range(256)) * 8192
    made.image(layer(("data", data)), pack=lambda tar: tar, kind=LAYER)
    made.push(plain, "cut", "latest")
    cuts = iter([1_000_000, 500_000])

    def act(request: registries.Asked) -> bool:
        if "/blobs/" in request.path and (status := request.upstream())[0] in (200, 206) and len(status[2]) > 10_000:
            cut = next(cuts, None)
            request.answer(*status, cut=cut)
            return True
        return False

    front.act = act
    assert oci(f"127.0.0.1:{front.server_port}/cut", store=store).read("/data") == data
    ranges = [headers.get("Range") for path, headers in front.asked if "/blobs/" in path]
    assert ranges == [None, None, "bytes=1000000-", "bytes=1500000-"]


def test_a_registry_that_dies_halfway_is_an_error_and_the_next_try_fetches_the_rest(
    plain: Server, front: Front, store: Store
) -> None:
    made = Made()
    tars = [layer((f"file{number}", bytes([number]) * 100_000)) for number in range(3)]
    made.image(*tars, pack=lambda tar: tar, kind=LAYER)
    made.push(plain, "dies", "latest")

    def act(request: registries.Asked) -> bool:
        if sha256(tars[2]) in request.path and "Range" not in request.headers:
            request.answer(*request.upstream(), cut=50_000)
            return True
        return "Range" in request.headers and request.json(503, {})

    front.act = act
    name = f"127.0.0.1:{front.server_port}/dies"
    with pytest.raises(ImageError, match=r"cannot pull .*503"):
        oci(name, store=store)
    assert [sha256(tar) in store for tar in tars] == [True, True, False]
    assert not [file for file in store.home.rglob("tmp/*") if file.is_file()]
    front.asked.clear()
    front.act = lambda _: False
    assert len(oci(name, store=store)) == 4
    assert [path.rpartition(":")[2] for path in front.paths("/blobs/")] == [sha256(tars[2])]


def test_a_registry_that_is_busy_is_asked_again_when_it_says(plain: Server, front: Front, store: Store) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "busy", "latest")
    answers = iter([(429, {"Retry_After": "0"}), (503, {}), (500, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"})])

    def act(request: registries.Asked) -> bool:
        status, headers = next(answers, (0, {}))
        return bool(status) and request.json(status, {}, **headers)

    front.act = act
    name = f"127.0.0.1:{front.server_port}/busy"
    assert oci(name, store=store).read("/etc/motd") == b"hello\n"
    front.asked.clear()
    front.act = lambda request: request.json(
        429, {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}, Retry_After="86400"
    )
    with pytest.raises(ImageError, match="saw 429 Too Many Requests: 'TOOMANYREQUESTS: slow down'"):
        oci(name, store=store)
    assert len(front.asked) == 1


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("/blobs/", lambda body: body[:-1] + bytes([body[-1] ^ 1]), "is not what it was said to be: expected sha256"),
        ("/blobs/", lambda body: body + b"\0", "a server that promises"),
        ("/blobs/", lambda body: body[:-1], "a server that promises"),
        ("/manifests/", lambda _: b"<html>", "the manifest of .* cannot be read: expected JSON"),
        ("/manifests/", lambda body: body + b" " * (1 << 22), "expected at most 4 MiB"),
    ],
)
def test_what_is_not_what_it_was_said_to_be_is_refused(
    plain: Server, front: Front, store: Store, part: str, change: Any, message: str
) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "false", "latest")

    def act(request: registries.Asked) -> bool:
        status, headers, body = request.upstream()
        request.answer(status, headers, change(body) if part in request.path else body)
        return True

    front.act = act
    with pytest.raises(ImageError, match=message):
        oci(f"127.0.0.1:{front.server_port}/false", store=store)
    assert sha256(BASE) not in store


def test_a_manifest_by_digest_is_that_manifest(plain: Server, front: Front, store: Store) -> None:
    made = Made()
    made.image(BASE)
    made.push(plain, "pinned", "latest")
    good = made.root
    made.image(OVER)
    other = made.manifests[made.root][1]
    front.act = lambda request: request.answer(200, {"Content-Type": MANIFEST + "+json"}, other)
    with pytest.raises(ImageError, match=f"expected sha256 {good}"):
        oci(f"127.0.0.1:{front.server_port}/pinned@sha256:{good}", store=store)


# ---- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda tar: tar, LAYER),
        (gzip.compress, LAYER + "+gzip"),
        (zstandard.compress, LAYER + "+zstd"),
        (gzip.compress, DOCKER + "image.rootfs.diff.tar.gzip"),
        (gzip.compress, DOCKER + "image.rootfs.foreign.diff.tar.gzip"),
        (gzip.compress, LAYER.replace("layer", "layer.nondistributable") + "+gzip"),
        (lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:]), LAYER + "+gzip"),
    ],
)
def test_layers_are_unpacked_whatever_packed_them(store: Store, tmp_path: Path, pack: Any, kind: str) -> None:
    tree = trees(BASE, OVER, store=store, folder=tmp_path, pack=pack, kind=kind)
    assert tree.read("/etc/motd") == b"hello\n" and "/etc/alias" not in tree
    assert tree.digest == trees(BASE, OVER, store=store, folder=tmp_path / "other").digest


@pytest.mark.parametrize(
    ("stack", "paths"),
    [
        ([("a", "b"), (".wh.a",)], "/b"),
        ([("d/", "d/a", "d/e/", "d/e/f", "x"), (".wh.d",)], "/x"),
        ([("d/", "d/a"), ("d/.wh.a", "d/b")], "/d /d/b"),
        # a whiteout is of what lies below, wherever it stands
        ([("a",), ("a", ".wh.a")], "/a"),
        ([("a",), (".wh.a", "a")], "/a"),
        ([(".wh.a", "b")], "/b"),
        ([("d/", "d/a", "d/b"), ("d/c", "d/.wh..wh..opq")], "/d /d/c"),
        ([("d/", "d/a", "d/b"), ("d/.wh..wh..opq", "d/c")], "/d /d/c"),
        ([("d/", "d/e/", "d/e/f"), ("d/", "d/e/", "d/e/g", "d/.wh..wh..opq")], "/d /d/e /d/e/g"),
        ([("a", "d/", "d/b"), (".wh..wh..opq", "c")], "/c"),
        ([("a",), ("d/.wh..wh..opq",)], "/a"),
        # what aufs kept for itself
        ([("a", ".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2"), (".wh..wh.orph/", ".wh..wh..opq/b")], "/a"),
        # other types
        ([("x/", "x/y/", "x/y/z"), ("x",)], "/x"),
        ([("x/", "x/y"), (("x", "-> y"),)], "/x"),
        ([("x",), ("x/", "x/y")], "/x /x/y"),
        ([("x/", "x/y"), ("x/", "x/z")], "/x /x/y /x/z"),
        ([("a", "x/", "x/y"), (("x", "== a"),)], "/a /x"),
        # through links
        ([("usr/lib/", ("lib", "-> usr/lib")), ("lib/a",)], "/lib /usr /usr/lib /usr/lib/a"),
        ([("usr/lib/", "usr/lib/a", ("lib", "-> usr/lib")), ("lib/.wh.a",)], "/lib /usr /usr/lib"),
        ([("usr/lib/", "usr/lib/a", ("lib", "-> usr/lib")), ("lib/.wh..wh..opq",)], "/lib /usr /usr/lib"),
        ([("u/", "u/a", ("l", "-> u")), ("l/", "l/.wh.a", "l/b")], "/l /l/b /u /u/a"),
        ([("u/", "u/a", ("l", "-> nowhere")), ("l/.wh..wh..opq",)], "/l /u /u/a"),
    ],
)
def test_layers_lie_over_each_other_as_a_runtime_lays_them(
    store: Store, tmp_path: Path, stack: list[Any], paths: str
) -> None:
    assert trees(*(layer(*one) for one in stack), store=store, folder=tmp_path).paths() == ["/", *paths.split()]


def test_hard_links_reach_into_lower_layers(store: Store, tmp_path: Path) -> None:
    tree = trees(layer(("a", b"one")), layer(("d/b", "== a")), layer(("a", b"two")), store=store, folder=tmp_path)
    assert (tree.read("/d/b"), tree.read("/a")) == (b"one", b"two")
    tree = trees(layer(("a", b"one")), layer(("d/b", "== ./a")), store=store, folder=tmp_path / "2")
    assert len({entry.number for entry in tree.entries() if entry.inode.is_file}) == 1


def test_a_directory_over_a_directory_changes_its_attributes(store: Store, tmp_path: Path) -> None:
    info = tarfile.TarInfo("d")
    info.type, info.mode, info.uid, info.mtime = tarfile.DIRTYPE, 0o2770, 7, 99
    tree = trees(layer("d/", "d/a"), layer(info), store=store, folder=tmp_path)
    assert (tree["/d"].mode, tree["/d"].uid, tree["/d"].mtime) == (stat.S_IFDIR | 0o2770, 7, 99 * 10**9)
    assert "/d/a" in tree


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("../evil",), "leads out of the tree"),
        (("a/../../evil",), "leads out of the tree"),
        ((".wh...",), "layer 1 of .* has a whiteout that cannot be used"),
        (("a/.wh..",), "has a whiteout that cannot be used"),
        ((".wh.",), "has a whiteout that cannot be used"),
        ((".wh.a/b",), "has a whiteout that cannot be used"),
        ((("a", "== ../../etc/passwd"),), "leads out of the tree"),
        ((("a", "== nothing"),), "hard link to nothing"),
        ((("a", "-> b"), ("b", "-> a"), "a/c"), "links that go round in circles"),
        ((("./", "-> /etc"),), "replaces its root"),
    ],
)
def test_a_layer_that_leads_out_or_nowhere_is_refused(
    store: Store, tmp_path: Path, entries: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        trees(layer(*entries), store=store, folder=tmp_path)


def test_an_absolute_link_leads_nowhere_but_into_the_tree(store: Store, tmp_path: Path) -> None:
    tree = trees(layer(("out", "-> /etc")), layer(("out/passwd", b"root"), "/abs"), store=store, folder=tmp_path)
    assert tree.paths() == ["/", "/abs", "/etc", "/etc/passwd", "/out"]


def test_a_layer_that_grows_without_end_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MOST_BLOB", 1 << 20)
    with pytest.raises(ImageError, match=r"layer 1 of .* is too big: expected at most 1 MiB when unpacked"):
        trees(layer(("zeros", bytes(1 << 24))), store=store, folder=tmp_path)
    assert not [file for file in store.home.rglob("tmp/*") if file.is_file()]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"diff_ids": ["0" * 64]}, "layer 1 of .* is not what its configuration says: expected sha256 0000"),
        ({"diff_ids": []}, "does not agree with itself: expected 0 layers.*saw 1"),
        ({"diff_ids": ["../../x"]}, "has a digest that cannot be used"),
        ({"pack": lambda tar: gzip.compress(tar)[:-9]}, "layer 1 of .* is damaged"),
        ({"pack": lambda tar: zstandard.compress(tar)[:-9]}, "layer 1 of .* is damaged"),
        ({"pack": lambda _: b"hello"}, "layer 1 of .* is no tar"),
        ({"kind": "text/html"}, "layer 1 of .* cannot be unpacked.*saw 'text/html'"),
        ({"kind": LAYER + "+gzip+encrypted"}, "layer 1 of .* cannot be unpacked"),
        ({"config_type": "application/vnd.cncf.helm.config.v1+json"}, "no image of a file system"),
        ({"manifest": INDEX + "+json"}, "the manifest of .* has another type"),
        ({"Env": "A=b"}, "expected Env as a list of texts"),
        ({"platform": {"os": 1}}, "expected os as a text"),
    ],
)
def test_an_image_that_does_not_hold_what_it_says_is_refused(
    store: Store, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        trees(BASE, store=store, folder=tmp_path, **how)


# ---- files ----------------------------------------------------------------------------------------------------------


def packed(folder: Path, where: Path, mode: str = "w") -> Path:
    with tarfile.open(where, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, ".")
    return where


def test_a_layout_is_read_as_a_folder_and_as_a_tar(store: Store, tmp_path: Path) -> None:
    made = Made()
    amd64 = made.image(layer("amd64"), platform=AMD64)
    index = made.index(amd64, made.image(BASE, OVER))
    folder = made.layout(tmp_path / "layout", index)
    tree = oci(folder, store=store)
    assert tree.name == "layout" and "/etc/issue" in tree and "/amd64" not in tree
    for how in ("w", "w:gz", "w:xz"):
        assert oci(str(packed(folder, tmp_path / "image.tar", how)), store=store).digest == tree.digest
    assert oci_config(folder, store=store).digest == sha256(made.manifests[index_of(made, index, 1)][1])


def index_of(made: Made, index: dict[str, Any], number: int) -> str:
    entries = json.loads(made.manifests[index["digest"].removeprefix("sha256:")][1])["manifests"]
    return str(entries[number]["digest"].removeprefix("sha256:"))


def test_of_several_images_in_a_layout_one_is_named(store: Store, tmp_path: Path) -> None:
    made = Made()
    name = "org.opencontainers.image.ref.name"
    one = made.image(layer("one")) | {"annotations": {name: "1.0"}}
    two = made.image(layer("two")) | {"annotations": {name: "2.0", "io.containerd.image.name": "docker.io/library/x:2"}}
    folder = made.layout(tmp_path / "layout", one, two)
    assert "/one" in oci(f"{folder}:1.0", store=store)
    assert "/two" in oci(f"{folder}:2.0", store=store) and "/two" in oci(f"{folder}:x:2", store=store)
    assert oci(f"{folder}:x:2", store=store).name == "layout:x:2"
    with pytest.raises(ImageError, match=r"cannot tell which image .*path and a colon, .*1\.0, 2\.0, docker"):
        oci(folder, store=store)
    with pytest.raises(ImageError, match=r"saw '3\.0'; there are"):
        oci(f"{folder}:3.0", store=store)
    (folder / "index.json").write_text(json.dumps({"manifests": [one, one | {"annotations": {name: "latest"}}]}))
    assert "/one" in oci(folder, store=store)


def saved(*images: tuple[str, bytes, list[str], list[bytes]], links: bool = False) -> list[Any]:
    """Members of a `docker save` archive: for each image its tag, configuration, layers' names and layers."""
    entries: list[Any] = []
    listing = []
    for tag, config, names, layers_ in images:
        entries.append((f"{sha256(config)}.json", config))
        for name, tar in zip(names, layers_, strict=True):
            entries.append((name, tar))
        if links:
            entries.append(("again/layer.tar", "-> ../" + names[0]))
            names = ["again/layer.tar", *names[1:]]
        listing.append({"Config": f"{sha256(config)}.json", "RepoTags": [tag] if tag else None, "Layers": names})
    return [*entries, ("manifest.json", json.dumps(listing).encode())]


def configuration(*layers_: bytes, platform: dict[str, str] = I386) -> bytes:
    ids = ["sha256:" + sha256(tar) for tar in layers_]
    return json.dumps({**platform, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()


def test_what_docker_save_writes_is_read(store: Store, tmp_path: Path) -> None:
    config = configuration(BASE, OVER)
    old = saved(("example/x:1", config, ["aa/layer.tar", "bb/layer.tar"], [BASE, OVER]))
    path = tmp_path / "old.tar"
    path.write_bytes(layer(*old))
    tree = oci(path, store=store)
    assert "/etc/issue" in tree and "/etc/alias" not in tree and tree.name == "old.tar"
    path.write_bytes(gzip.compress(layer(*old)))
    assert oci(path, store=store).digest == tree.digest
    linked = saved(("example/x:1", config, ["aa/layer.tar", "bb/layer.tar"], [BASE, OVER]), links=True)
    path.write_bytes(layer(*linked))
    assert oci(path, store=store).digest == tree.digest
    made = Made()
    folder = made.layout(tmp_path / "new", made.image(BASE, OVER))
    (folder / "manifest.json").write_text("[]")
    assert oci(packed(folder, tmp_path / "new.tar"), store=store).digest == tree.digest


def test_of_several_saved_images_one_is_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "two.tar"
    path.write_bytes(
        layer(
            *saved(
                ("x:1", configuration(BASE), ["aa/layer.tar"], [BASE]),
                ("registry.example.org/y:2", configuration(OVER), ["bb/layer.tar"], [OVER]),
            )
        )
    )
    assert "/etc/motd" in oci(f"{path}:docker.io/library/x:1", store=store)
    assert "/etc/issue" in oci(f"{path}:2", store=store)
    with pytest.raises(ImageError, match="cannot tell which image"):
        oci(path, store=store)


NO_LAYER = saved(("x", configuration(BASE), ["aa"], [BASE]))[::2]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (saved(("x", configuration(BASE), ["aa/layer.tar"], [BASE]))[:1], "cannot find the image"),
        ([*NO_LAYER, ("bb", "-> aa")], "is not complete: expected a file 'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> /etc/passwd")], "'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> ../../etc/passwd")], "'aa', saw none"),
        ([*NO_LAYER, ("aa", "-> aa")], "'aa', saw none"),
        ([*NO_LAYER, "aa/"], "'aa', saw a directory"),
        (saved(("x", configuration(OVER), ["aa"], [BASE])), "is not what its configuration says"),
        (saved(("x", configuration(BASE, BASE), ["aa"], [BASE])), "does not agree with itself"),
        (saved(("x", configuration(BASE, platform=AMD64), ["aa"], [BASE])), "this is an x86-64 image"),
        ([("manifest.json", b"{}")], "expected a list of images"),
        ([("manifest.json", b'[{"Config": "../../x", "Layers": []}]')], "leads out of the tree"),
        ([("manifest.json", b'[{"Config": "x", "Layers": [1]}]'), ("x", configuration())], "expected Layers as"),
        ([("manifest.json", b" " * (5 << 20))], "is too long"),
        ([("index.json", b"{}")], "expected a file 'oci-layout'"),
        ([("index.json", b"{}"), ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}')], "expected an image layout of"),
        (["etc/passwd"], "cannot find the image.*expected an OCI layout.*saw a tar without them"),
        (["../manifest.json"], "leads out of the tree"),
    ],
)
def test_a_strange_archive_is_refused(store: Store, tmp_path: Path, members: list[Any], message: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(layer(*members))
    with pytest.raises(ImageError, match=message):
        oci(path, store=store)


@pytest.mark.parametrize("where", ["/does/not/exist", "./nothing", "~/nothing.tar", "nothing\0/"])
def test_a_path_without_an_image_is_named(store: Store, where: str) -> None:
    with pytest.raises(ImageError, match=r"cannot (find the image|use .* as the name)"):
        oci(where, store=store)
    with pytest.raises(ImageError, match="the name or path of one, saw bytes"):
        oci(b"alpine", store=store)  # type: ignore[arg-type]


def test_blobs_of_a_layout_are_held_to_their_digests(store: Store, tmp_path: Path) -> None:
    made = Made()
    folder = made.layout(tmp_path / "layout", made.image(BASE))
    for path in (folder / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        for change, message in ((data[:-1] + b"\xff", "is not what it was"), (data + b"\0", "has another size")):
            path.write_bytes(change)
            with pytest.raises(ImageError, match=message):
                oci(folder, store=Store(tmp_path / os.urandom(4).hex()))
        path.write_bytes(data)
    assert oci(folder, store=store).read("/etc/motd") == b"hello\n"


def test_indexes_inside_indexes_end_somewhere(store: Store, tmp_path: Path) -> None:
    made = Made()
    entry = made.image(BASE)
    for depth in range(4):
        entry = made.index(entry)
        if depth == 2:
            assert "/etc/motd" in oci(made.layout(tmp_path / "few", entry), store=store)
    with pytest.raises(ImageError, match="indexes inside indexes"):
        oci(made.layout(tmp_path / "many", entry), store=store)


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        (b"", "", "expected JSON"),
        (b"\xff", "", "expected JSON"),
        (b"[" * 100_000, "", "expected JSON"),
        (b"[]", "", "expected a JSON object"),
        (b" " * (4 << 20) + b"{}", "", "is too long"),
        (b'{"schemaVersion": 1}', "", "docker's first schema"),
        (b'{"manifests": [], "layers": []}', "", "could be read as two things"),
        (b'{"manifests": [], "mediaType": "%s"}' % (MANIFEST + "+json").encode(), "", "has another type"),
        (b'{"manifests": []}', MANIFEST + "+json", "has another type"),
        (b'{"manifests": {}}', "", "a list of at most 1000 manifests"),
        (b'{"manifests": [%s]}' % b",".join([b"1"] * 1001), "", "a list of at most 1000 manifests, saw 1001"),
        (b'{"manifests": [{"digest": "sha512:1", "size": 1}]}', "", "has a digest that cannot be used"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": -1}]}' % 0, "", "a size of at most"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": true}]}' % 0, "", "a size of at most"),
        (b'{"manifests": [{"digest": "sha256:%064d", "size": 5000000}]}' % 0, "", "a size of at most"),
        (b'{"layers": []}', "", "the configuration of it cannot be used"),
    ],
)
def test_a_document_that_is_none_is_refused(document: bytes, media_type: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        manifest.read(document, "it", media_type)
