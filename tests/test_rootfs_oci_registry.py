from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import registries
from registries import AMD64, BASE, BASIC, DOCKER, I386, LAYER, MANIFEST, OVER, Front, Made, Server, layer, sha256

from v86lab import download
from v86lab.errors import ImageError
from v86lab.rootfs.oci import credentials, oci, oci_config
from v86lab.store import Store


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
    made.index(made.image(BASE, platform={"os": "unknown", "architecture": "unknown"}), amd64)
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
