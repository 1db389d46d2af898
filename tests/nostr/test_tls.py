"""Relays over TLS: trusted by the system's certificates, which are read once."""

import datetime
import ssl
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.nip11 import RelayInformation
from pylon.nostr.websocket import tls
from pylon.nostr.websocket.dialing import dial_judged


def certificate(folder: Path) -> Path:
    """A key and a certificate that it signed itself, for `localhost`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "relay.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture(autouse=True)
def _read_anew():
    tls._context.cache_clear()
    yield
    tls._context.cache_clear()


async def silent(_: str) -> RelayInformation:
    return RelayInformation()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_relay_is_connected_to_when_its_certificate_is_trusted_and_only_then(tmp_path, monkeypatch, trusted):
    file = certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(file)

    async def keep(socket) -> None:
        await socket.wait_closed()

    async with serve(keep, "localhost", 0, ssl=secured) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = RelayConnection(f"wss://localhost:{port}", learn=silent)
        connection.start()
        try:
            assert await connection.wait_open(10 if trusted else 1) is trusted
            assert trusted or "CERTIFICATE_VERIFY_FAILED" in connection.status.error
        finally:
            await connection.close()


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example.com"])
async def test_where_addresses_are_judged_the_certificate_must_be_for_the_name_that_was_asked_for(
    tmp_path, monkeypatch, name
):
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(file)

    async def keep(socket) -> None:
        await socket.wait_closed()

    async def about(connection, request) -> Response | None:
        if "upgrade" in request.headers:
            return None
        body = b'{"limitation": {"max_limit": 7}}'
        return Response(200, "OK", Headers({"Content-Length": str(len(body))}), body)

    async def here(_: str) -> list[str]:
        return ["127.0.0.1"]

    async with serve(keep, "127.0.0.1", 0, ssl=secured, process_request=about) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        dial = partial(dial_judged, may_dial=lambda _: True, resolve=here)
        connection = RelayConnection(f"wss://{name}:{port}", dial=dial)
        connection.start()
        try:
            trusted = name == "localhost"
            assert await connection.wait_open(10 if trusted else 1) is trusted
            assert trusted or "CERTIFICATE_VERIFY_FAILED" in connection.status.error
            # The document about the relay goes the same way.
            assert connection.status.information.max_limit == (7 if trusted else None)
        finally:
            await connection.close()


def test_a_python_that_finds_no_authorities_trusts_those_of_certifi(tmp_path, monkeypatch):
    # As python.org's for macOS looks where nothing is, or an empty folder.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    for folder in (tmp_path / "certs", tmp_path):
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
        tls._context.cache_clear()
        trusting = tls.context_for(True)
        assert trusting is not None and trusting.verify_mode is ssl.CERT_REQUIRED and trusting.check_hostname
        assert trusting.cert_store_stats()["x509_ca"] > 100


def test_authorities_that_the_system_has_stay_the_only_ones(tmp_path, monkeypatch):
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    alone = tls.context_for(True)
    assert alone is not None and alone.cert_store_stats()["x509_ca"] == 1
    tls._context.cache_clear()
    # A folder of them, each under the hash of its name.
    (tmp_path / "0a1b2c3d.0").write_bytes(file.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    unread = tls.context_for(True)
    assert unread is not None and unread.cert_store_stats()["x509_ca"] == 0


def test_all_connections_share_what_they_are_secured_by():
    assert tls.context_for(True) is tls.context_for(True)
    assert tls.context_for(False) is None
