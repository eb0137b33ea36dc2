"""URLs of objects on local files that `conveyor serve` answers: bound to one method, bucket, key and moment, by an
HMAC-SHA-256 under a key that is derived from that of secrets."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from conveyor.blobs.model import OBJECT_BYTES_MAX
from conveyor.model.refusals import LinkRefusedError
from conveyor.secrets import Keys

PATH: Final = "/api/v1/objects/"
_PURPOSE: Final = b"links of buckets"


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What a link allows."""

    key: str
    size_max: int


class Links:
    """Makes links and reads them; processes that share the key of secrets read each other's."""

    def __init__(self, keys: Keys, base: Callable[[], str]) -> None:
        """`base` is what stands before the path: `https://example.com`, or nothing."""
        self._keys = keys
        self._base = base

    def make(self, method: str, bucket: str, key: str, until_ms: int, size_max: int | None) -> str:
        """Good until that moment, in whole seconds."""
        query = {"key": key, "expires": str(until_ms // 1_000)}
        if size_max is not None:
            query["size_max"] = str(size_max)
        secret = self._keys.derive(_PURPOSE)[0]
        query["token"] = base64.urlsafe_b64encode(_seal(secret, method, bucket, query)).rstrip(b"=").decode()
        return f"{self._base()}{PATH}{quote(bucket, safe='')}?{urlencode(query, quote_via=quote)}"

    def read(self, method: str, bucket: str, query: Mapping[str, str], now_ms: int) -> Granted:
        """`LinkRefusedError`, the same whatever is wrong; HEAD may what GET may."""
        given = dict(query)
        token = given.pop("token", "").encode("utf-8", "surrogatepass")
        wanted = "GET" if method == "HEAD" else method
        sealed = [_seal(secret, wanted, bucket, given) for secret in self._keys.derive(_PURPOSE)]
        is_ours = [hmac.compare_digest(base64.urlsafe_b64encode(each).rstrip(b"="), token) for each in sealed]
        if not any(is_ours) or now_ms >= int(given["expires"]) * 1_000:
            raise LinkRefusedError
        size_max = int(given.get("size_max", OBJECT_BYTES_MAX))
        return Granted(key=given["key"], size_max=size_max)


def _seal(secret: bytes, method: str, bucket: str, query: Mapping[str, str]) -> bytes:
    """Lengths go before the parts, so that no two requests read alike."""
    parts = [method, bucket, *(part for name in sorted(query) for part in (name, query[name]))]
    raw = [part.encode("utf-8", "surrogatepass") for part in parts]
    return hmac.digest(secret, b"".join(b"%d:%b" % (len(part), part) for part in raw), "sha256")
