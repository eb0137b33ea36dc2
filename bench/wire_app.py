"""What `python -m bench.http` serves: conveyor's own routes, and beside them the least that a POST route can be."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

from conveyor import Conveyor

_ANSWER = b'{"success":true,"errors":[],"messages":[],"result":null}'
_WANTED = hashlib.sha256(b"Bearer " + os.environ.get("CONVEYOR_TOKEN", "").encode()).digest()


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Reads the body, compares the token, and answers."""
    if scope["type"] != "http":
        return
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    status = 200 if hmac.compare_digest(hashlib.sha256(given).digest(), _WANTED) else 403
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


app = Conveyor("bench")
app.declare_queue("jobs")
app.http = bare
