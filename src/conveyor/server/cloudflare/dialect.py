"""Cloudflare's envelope around errors: `{"success": false, "errors": [{"code", "message"}], "messages": [], "result": null}`."""

from __future__ import annotations

from typing import Final

from conveyor.model.errors import ConveyorError
from conveyor.model.refusals import ForbiddenError, UnauthenticatedError
from conveyor.server.endpoint import Answer
from conveyor.server.problem import headers_of, status_of, told_of

_GENERAL: Final = 10_001
_CODES: Final[dict[type[ConveyorError], int]] = {UnauthenticatedError: 10_000, ForbiddenError: 10_000}


class Envelope:
    """`Dialect` of Cloudflare's wire."""

    def render(self, error: Exception, request_id: str) -> Answer:
        _, message, hint = told_of(error)
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), _GENERAL)
        said = {"code": code, "message": f"{message} ({hint})" if hint else message}
        body = {"success": False, "errors": [said], "messages": [], "result": None}
        return Answer.json(body, status_of(error), headers=(*headers_of(error), (b"cf-ray", request_id.encode())))
