"""An S3 server on loopback: moto's, in a process of its own. Objects are in its memory and gone with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2

from kit.postgres import free_port

KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 of AWS's documentation
START_S = 60


class S3Server:
    """Where it listens, what it was asked, and a client that is not ours."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint = endpoint
        self._log = log

    @property
    def client(self) -> Any:
        """boto3's."""
        import boto3  # type: ignore[import-untyped]  # it has no types
        from botocore.config import Config  # type: ignore[import-untyped]  # it has no types

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=KEY,
            aws_secret_access_key=SECRET, config=Config(request_checksum_calculation="when_required"),
        )  # fmt: skip

    def url(self, bucket: str, *, prefix: str = "") -> str:
        """As settings have it, with credentials."""
        secret = SECRET.replace("/", "%2F")
        return f"s3://{KEY}:{secret}@{bucket}{prefix}?region=us-east-1&endpoint={self.endpoint}"

    def asked(self) -> list[str]:
        """Method and target of every request so far."""
        lines = self._log.read_text().splitlines()
        return [line.split('"')[1].replace("\x1b[35m", "").replace("\x1b[1m", "") for line in lines if "HTTP/1" in line]


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """One that answers."""
    port = free_port()
    log = folder / "s3.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait(endpoint, process)
            yield S3Server(endpoint, log)
        finally:
            process.terminate()
            process.wait()


def _wait(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    until = monotonic() + START_S
    while process.poll() is None and monotonic() < until:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(f"{endpoint}/moto-api/data.json", trust_env=False, timeout=60)
            return
        sleep(0.05)
    raise RuntimeError("moto's server did not start")
