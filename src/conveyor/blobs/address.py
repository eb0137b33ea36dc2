"""URLs of buckets behind HTTP, read without being called.

    s3://KEY:SECRET@BUCKET/PREFIX?region=eu-central-1&endpoint=https://s3.example.com
    r2://KEY:SECRET@ACCOUNT/BUCKET/PREFIX?jurisdiction=eu

Without credentials in it, those of the environment count: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a role.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from conveyor.model.errors import InvalidSettingError

_R2_HOST: Final = "r2.cloudflarestorage.com"
_JURISDICTIONS: Final = frozenset({"eu", "fedramp"})
_ACCOUNT: Final = re.compile(r"[0-9a-f]{32}")
_BUCKET: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,61}[a-zA-Z0-9]")
_KNOWN: Final = {"s3": ("endpoint", "region", "virtual_hosted"), "r2": ("jurisdiction",)}
_HINT: Final = "as in `s3://BUCKET?region=eu-central-1` or `r2://ACCOUNT/BUCKET`"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bucket is, and what its client is told."""

    bucket: str
    prefix: str
    is_plain: bool
    """HTTP without TLS: secrets are not sent, objects are seen."""
    options: Mapping[str, str | bool]

    def __repr__(self) -> str:
        return f"<address of {self.bucket}>"


def read_address(name: str, url: str) -> Address:
    """`InvalidSettingError`, which shows no credentials."""
    setting = f"buckets.{name}"
    scheme, _, rest = url.partition("://")
    base, _, options_text = rest.partition("?")
    userinfo, _, place = base.rpartition("@")  # a secret may hold a slash
    shown = f"{scheme}://{place}"  # without credentials, and without options, which might hold some
    if scheme not in _KNOWN:
        raise InvalidSettingError(setting, "...", "is neither `s3://` nor `r2://`", hint=_HINT)
    try:
        query = dict(parse_qsl(options_text, keep_blank_values=True, strict_parsing=bool(options_text)))
    except ValueError:
        raise InvalidSettingError(setting, shown, "is no URL: what follows `?` is not NAME=VALUE", hint=_HINT) from None
    host, _, path = place.partition("/")
    for option in query:
        if option not in _KNOWN[scheme]:
            known = ", ".join(_KNOWN[scheme])
            raise InvalidSettingError(setting, shown, f"`{option}` is no option of it", hint=f"there are: {known}")
    options = _read_credentials(setting, shown, userinfo)
    path = unquote(path).strip("/")
    if scheme == "r2":
        bucket, _, prefix = path.partition("/")
        options |= {"endpoint": _r2_endpoint(setting, shown, host, query), "region": "auto"}
    else:
        bucket, prefix = host, path
        options |= _read_s3(setting, shown, query)
    if _BUCKET.fullmatch(bucket) is None:
        raise InvalidSettingError(setting, shown, "names no bucket", hint=_HINT)
    is_plain = str(options.get("endpoint", "")).startswith("http://")
    return Address(bucket=bucket, prefix=prefix, is_plain=is_plain, options=options)


def _read_credentials(setting: str, shown: str, userinfo: str) -> dict[str, str | bool]:
    if not userinfo:
        return {}
    key, _, secret = userinfo.partition(":")
    if not key or not secret:
        raise InvalidSettingError(setting, shown, "has one of key and secret", hint="s3://KEY:SECRET@BUCKET")
    return {"access_key_id": unquote(key), "secret_access_key": unquote(secret)}


def _r2_endpoint(setting: str, shown: str, account: str, query: Mapping[str, str]) -> str:
    if _ACCOUNT.fullmatch(account) is None:
        raise InvalidSettingError(setting, shown, "names no account: 32 hex digits", hint=_HINT)
    where = query.get("jurisdiction")
    if where is None:
        return f"https://{account}.{_R2_HOST}"
    if where not in _JURISDICTIONS:
        raise InvalidSettingError(setting, shown, "`jurisdiction` is neither `eu` nor `fedramp`")
    return f"https://{account}.{where}.{_R2_HOST}"


def _read_s3(setting: str, shown: str, query: Mapping[str, str]) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    if "region" in query:
        options["region"] = query["region"]
    if "endpoint" in query:
        endpoint = query["endpoint"].rstrip("/")
        if not endpoint.startswith(("http://", "https://")) or "@" in endpoint:
            raise InvalidSettingError(setting, shown, "`endpoint` is no URL", hint="endpoint=https://s3.example.com")
        options["endpoint"] = endpoint
        options.setdefault("region", "us-east-1")
    if query.get("virtual_hosted", "0") not in {"0", "1"}:
        raise InvalidSettingError(setting, shown, "`virtual_hosted` is neither 0 nor 1")
    if query.get("virtual_hosted") == "1":
        options["virtual_hosted_style_request"] = True
    return options
