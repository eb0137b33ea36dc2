"""Who am I, and which accounts are there: what clients ask before anything else. Every account id is accepted, and all
of them are this server."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final

from conveyor.server.cloudflare.dialect import UNROUTABLE, Refusal, moment, succeed
from conveyor.server.cloudflare.paging import read_page
from conveyor.server.endpoint import Answer, Call, Endpoint, Handle

ACCOUNT: Final = "c0" * 16
"""The one account that lists name."""
NAME: Final = "conveyor"
EMAIL: Final = "conveyor@localhost"
_USER: Final = "0c" * 16
_ID: Final = re.compile(r"[0-9a-fA-F]{32}")


def endpoints() -> list[Endpoint]:
    """Below `/client/v4` itself."""
    return [
        _about_caller("/user", show_user),
        _about_caller("/user/tokens/verify", verify_token),
        _about_caller("/accounts", list_accounts),
        _about_caller("/accounts/{account}", show_account),
        _about_caller("/accounts/{account}/tokens/verify", verify_token),
        _about_caller("/memberships", list_memberships),
    ]


def of_account(handle: Handle) -> Handle:
    """The same for an account: any, if its id is one."""

    def check(call: Call) -> Awaitable[Answer]:
        if not _is_id(call.path["account"]):
            words = "Could not route to {}, perhaps your object identifier is invalid?"
            raise Refusal(UNROUTABLE, words.format(f"/accounts/{call.path['account'][:64]}"), status=404)
        return handle(call)

    return check


@lru_cache(256)
def _is_id(account: str) -> bool:
    return _ID.fullmatch(account) is not None


async def show_user(call: Call) -> Answer:
    user = {"id": _USER, "email": EMAIL, "first_name": call.caller.name, "last_name": None, "suspended": False}
    return succeed(user)


async def verify_token(call: Call) -> Answer:
    """Whoever comes as far as here has a valid one."""
    token = (call.caller.token_id or "").encode().hex()[:32].ljust(32, "0")
    said = {"code": 10_000, "message": "This API Token is valid and active", "type": None}
    return succeed({"id": token, "status": "active"}, messages=[said])


async def list_accounts(call: Call) -> Answer:
    items, info = read_page(call, [_account()], per_page=20)
    return succeed(items, info=info)


async def show_account(call: Call) -> Answer:
    return await of_account(_show_account)(call)


async def _show_account(call: Call) -> Answer:
    return succeed({**_account(), "id": call.path["account"]})


async def list_memberships(call: Call) -> Answer:
    roles = ["Super Administrator - All Privileges"]
    member = {"id": _USER, "status": "accepted", "account": _account(), "roles": roles}
    items, info = read_page(call, [member], per_page=20)
    return succeed(items, info=info)


def _account() -> dict[str, object]:
    return {"id": ACCOUNT, "name": NAME, "type": "standard", "settings": {}, "created_on": moment(0)}


def _about_caller(path: str, handle: Handle) -> Endpoint:
    return Endpoint(method="GET", path=path, right=None, scope="token", handle=handle)
