"""A real server and real clients over loopback, on both event loops."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.authority import Authority, Leaf, bundle_of, make_authority, make_leaf
from certs.serving import ServingCertificate, UnfitCertificateError
from runtime.clock import SystemClock
from tests.certs.certs_cases import NAME, NAMES, pem

NOW = dt.datetime.fromtimestamp(SystemClock().now(), dt.UTC)  # clients have a clock of their own
OLD, NEW = make_authority(NOW), make_authority(NOW)


@dataclass
class Peer:
    """A client's connection, and what it was shown."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def serial(self) -> int:
        shown = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number

    async def echo(self, word: bytes) -> bytes:
        self.writer.write(word + b"\n")
        return (await self.reader.readline()).strip()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def connect(port: int, *trusted: Authority, name: str = NAME) -> Peer:
    context = ssl.create_default_context(cadata=bundle_of(trusted).decode())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    return Peer(reader, writer)


@asynccontextmanager
async def echo_server(certificate: ServingCertificate) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)


def load(certificate: ServingCertificate, leaf: Leaf) -> bool:
    return certificate.load(leaf.certificate_pem, leaf.key_pem)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    def in_loop(scene: Any) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scene(), 30))

    return in_loop


def test_a_rotation_is_seen_by_the_next_handshake_and_old_connections_live_on(
    run: Callable[[Any], None],
) -> None:
    async def scene() -> None:
        certificate = ServingCertificate()
        first, second = make_leaf(OLD, NAMES, NOW), make_leaf(NEW, NAMES, NOW)
        assert load(certificate, first)
        async with echo_server(certificate) as port:
            early = await connect(port, OLD)
            assert early.serial == first.certificate.serial_number
            assert load(certificate, second)
            late = await connect(port, OLD, NEW)
            assert late.serial == second.certificate.serial_number
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(port, OLD)
            assert await early.echo(b"still here") == b"still here"
            assert await late.echo(b"here too") == b"here too"
            await early.close()
            await late.close()

    run(scene)


@pytest.mark.parametrize("fault", ["another key", "no key", "no PEM"])
def test_a_load_that_fails_leaves_the_last_certificate_in_force(
    run: Callable[[Any], None], fault: str
) -> None:
    async def scene() -> None:
        certificate = ServingCertificate()
        good, other = make_leaf(OLD, NAMES, NOW), make_leaf(OLD, NAMES, NOW)
        load(certificate, good)
        key = {"another key": good.key_pem, "no key": b"", "no PEM": b"\0"}[fault]
        async with echo_server(certificate) as port:
            with pytest.raises(UnfitCertificateError, match="accepted: a PEM pair"):
                certificate.load(other.certificate_pem, key)
            peer = await connect(port, OLD)
            assert peer.serial == good.certificate.serial_number
            assert not load(certificate, good)
            await peer.close()
            load(certificate, other)
            peer = await connect(port, OLD)
            assert peer.serial == other.certificate.serial_number
            await peer.close()

    run(scene)


def test_before_the_first_certificate_handshakes_fail_and_then_they_do_not(
    run: Callable[[Any], None],
) -> None:
    async def scene() -> None:
        certificate = ServingCertificate()
        assert certificate._current is None
        async with echo_server(certificate) as port:
            with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, as the loop has it
                await connect(port, OLD)
            load(certificate, make_leaf(OLD, NAMES, NOW))
            assert certificate._current is not None
            peer = await connect(port, OLD)
            assert await peer.echo(b"hello") == b"hello"
            await peer.close()

    run(scene)


def test_a_certificate_with_a_key_of_another_type_takes_over_too(
    run: Callable[[Any], None],
) -> None:
    async def scene() -> None:
        certificate = ServingCertificate()
        load(certificate, make_leaf(OLD, NAMES, NOW))
        key = rsa.generate_private_key(65537, 2048)
        signed = rsa_leaf(key)
        async with echo_server(certificate) as port:
            certificate.load(
                pem([signed]),
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            )
            peer = await connect(port, OLD)
            assert peer.serial == signed.serial_number
            await peer.close()

    run(scene)


def rsa_leaf(key: rsa.RSAPrivateKey) -> x509.Certificate:
    assert OLD.key is not None
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(OLD.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(hours=1))
        .not_valid_after(NOW + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=True)
        .sign(OLD.key, hashes.SHA256())
    )


def test_a_client_that_names_nobody_is_served(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        certificate = ServingCertificate()
        load(certificate, make_leaf(OLD, NAMES, NOW))
        context = ssl.create_default_context(cadata=bundle_of([OLD]).decode())
        context.check_hostname = False
        async with echo_server(certificate) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            peer = Peer(reader, writer)
            assert await peer.echo(b"hello") == b"hello"
            await peer.close()

    run(scene)


def test_an_encrypted_key_is_refused_without_asking_a_terminal() -> None:
    leaf = make_leaf(OLD, NAMES, NOW)
    locked = leaf.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(UnfitCertificateError):
        ServingCertificate().load(leaf.certificate_pem, locked)
