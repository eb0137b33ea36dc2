"""A bucket behind HTTP, by its URL; the library that speaks to it is imported only then."""

from __future__ import annotations

from collections.abc import Callable

from conveyor.blobs.address import read_address
from conveyor.blobs.model import Backend
from conveyor.model.clock import Clock
from conveyor.model.errors import StoreUnsupportedError


def make_remote(name: str, url: str, clock: Callable[[], Clock]) -> Backend:
    """Nothing is connected to yet. `InvalidSettingError`, `StoreUnsupportedError` without the extra `s3`."""
    address = read_address(name, url)
    try:
        from conveyor.blobs.s3 import S3Backend
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise StoreUnsupportedError("obstore is not installed", hint="pip install 'conveyor[s3]'") from error
    return S3Backend(address, clock, name)
