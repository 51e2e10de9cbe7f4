"""Redis servers of a test's own: they can be killed, hang and return, fail over, and speak TLS."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployer.local.embedded_redis import server_programs
from sandbox.installation import free_port, wait_for


class Server:
    """A server that keeps port and data from one start to the next.

    Args:
        directory: its own, made if missing.
        settings: lines of its configuration.
        arguments: put behind the configuration's path, as `--sentinel`.
        binary: its program; with `tls_binary` one that only serves under another name.
        client: more options of `client`.
    """

    def __init__(
        self,
        directory: Path,
        *settings: str,
        arguments: Sequence[str] = (),
        binary: Path | None = None,
        client: dict[str, Any] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.port = directory, free_port()
        self._binary = binary or next(server_programs())
        self._options = client or {}
        self._config = directory / "redis.conf"
        port = [] if any(line.startswith("tls-port ") for line in settings) else [f"port {self.port}"]
        if (
            "cluster-enabled yes" in settings
        ):  # the default is 10,000 above the port, where the kernel assigns ports
            port.append(f"cluster-port {free_port()}")
        own = ["bind 127.0.0.1", *port, f'dir "{directory}"', f'logfile "{directory}/log"', 'save ""']
        self._config.write_text("\n".join([*own, *(line.format(port=self.port) for line in settings)]) + "\n")
        self._command = ["redis-server", str(self._config), *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            **self._options,
        )

    def start(self, *, wait: bool = True) -> "Server":
        self.process = subprocess.Popen(
            self._command, executable=self._binary, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            if wait:
                wait_for("the server answers", self._answers)
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with self.client as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`, unless it has gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


class SlowNetwork:
    """Stands between clients and a Redis, and delays what Redis sends. Closing it closes its connections.

    Args:
        port: of the Redis.
        seconds: by which each answer comes late.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self.seconds = seconds
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self._closed = False
        self._lock = threading.Lock()  # a client may connect at the moment in which the network is closed
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:  # no Redis listens at this moment
                    client.close()
                    continue
                with self._lock:
                    self._open += [client, server]
                if self._closed:
                    self.close()
                    return
                for source, target, late in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._copy, args=(source, target, late), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, late: bool) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                if late:
                    time.sleep(self.seconds)
                target.sendall(part)


class Authority:
    """A certificate authority and a server of it, which is made out to 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "ca.pem"
        self._own, self._key = directory / "server.pem", directory / "server.key"
        name, key = self._name("authority"), ec.generate_private_key(ec.SECP256R1())
        signed = self._builder(name, name, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        # by these two a strict verification, Python's default from 3.13 on, finds the way
        signed = signed.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        signed = signed.add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), True
        )
        self._write(self.certificate, signed.sign(key, hashes.SHA256()))
        own = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        issued = self._builder(self._name("server"), name, own).add_extension(alternative, False)
        issued = issued.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False
        )
        self._write(self._own, issued.sign(key, hashes.SHA256()))
        self._key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def settings(self) -> tuple[str, ...]:
        """What makes a server speak TLS only."""
        return (
            "port 0", "tls-port {port}", "tls-auth-clients no", "tls-replication yes",
            f"tls-cert-file {self._own}", f"tls-key-file {self._key}", f"tls-ca-cert-file {self.certificate}",
        )  # fmt: skip

    @property
    def client_options(self) -> dict[str, Any]:
        return {"ssl": True, "ssl_ca_certs": str(self.certificate)}

    @staticmethod
    def _name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@cache
def tls_binary() -> Path | None:
    """A server's program that speaks TLS: `redis-server`, or the same program as Debian's redis-tools has it."""
    for name in ("redis-server", "redis-check-rdb"):
        if (found := shutil.which(name)) and _speaks_tls(found):
            return Path(found)
    return None


def _speaks_tls(program: str) -> bool:
    """Whether it gets as far as to miss its certificates; either way it ends at once."""
    done = subprocess.run(
        ["redis-server", *["--port", "0", "--tls-port", "1", "--bind", "127.0.0.1", "--save"], ""],
        executable=program, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    return "Failed to configure TLS" in done.stdout
