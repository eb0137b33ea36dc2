"""The web inbox: what was mailed and texted, for eyes and for programs. Nothing of a mail is ever rendered."""

from html import escape
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from .ledger import Acceptance, Ledger

SHOWN_MAX: Final = 200
POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
GUARDS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 1rem; border: 1px solid #8884; border-radius: .4rem; }
.cut { color: #c33; }
"""


class Inbox:
    """Shows the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def routes(self) -> list[BaseRoute]:
        """List the addresses."""
        mail = [
            Route("/style.css", self._style, methods=["GET"]),
            Route("/{number:int}", self._show, methods=["GET"]),
            Route("/{number:int}.json", self._show_json, methods=["GET"]),
            Route("/{number:int}.eml", self._show_raw, methods=["GET"]),
        ]
        return [
            Route("/inbox", self._list, methods=["GET"]),
            Route("/inbox.json", self._list_json, methods=["GET"]),
            Mount("/inbox", routes=mail),
        ]

    async def _list(self, request: Request) -> Response:
        found = self._found(request)
        rows = "".join(_row(each) for each in found) or "<tr><td colspan=5>Nothing has come yet.</td></tr>"
        head = "<tr><th>When</th><th>By</th><th>To</th><th>Subject</th><th></th></tr>"
        return _page("Inbox", f"<h1>Inbox</h1><table>{head}{rows}</table>")

    async def _list_json(self, request: Request) -> Response:
        return _json({"messages": [_plain(each) for each in self._found(request)]})

    async def _show(self, request: Request) -> Response:
        found = self._ledger.find(request.path_params["number"])
        return _page("Not here", "<h1>Not here</h1>", status=404) if found is None else _page("Mail", _whole(found))

    async def _show_json(self, request: Request) -> Response:
        found = self._ledger.find(request.path_params["number"])
        if found is None:
            return _json({"error": {"code": "not_found", "message": "there is no such message"}}, status=404)
        return _json({**_plain(found), "text": found.text, "html": found.html})

    async def _show_raw(self, request: Request) -> Response:
        found = self._ledger.find(request.path_params["number"])
        if found is None or not found.raw:
            return Response(status_code=404, headers=GUARDS)
        name = f'attachment; filename="{found.number}.eml"'
        return Response(
            found.raw, media_type="application/octet-stream", headers={**GUARDS, "content-disposition": name}
        )

    async def _style(self, request: Request) -> Response:
        return Response(STYLE, media_type="text/css", headers=GUARDS)

    def _found(self, request: Request) -> list[Acceptance]:
        """Find the newest; `?to=` narrows it down."""
        to = request.query_params.get("to")
        found = [each for each in self._ledger.of() if to is None or to in each.recipients]
        return found[::-1][:SHOWN_MAX]


def _plain(each: Acceptance) -> dict[str, object]:
    hidden = {"raw", "text", "html"}
    return {name: getattr(each, name) for name in each.__struct_fields__ if name not in hidden}


def _row(each: Acceptance) -> str:
    cells = (each.at[:19].replace("T", " "), each.provider, ", ".join(each.recipients))
    subject = each.subject or each.text[:80] or "(empty)"
    link = f'<a href="/inbox/{each.number}">{escape(subject)}</a>'
    shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr>{shown}<td>{link}</td><td>{_cut(each)}</td></tr>"


def _whole(each: Acceptance) -> str:
    facts = {
        "From": each.sender,
        "To": ", ".join(each.recipients),
        "Subject": each.subject,
        "By": f"{each.provider}, {each.id}",
        "Reference": each.reference,
        "When": each.at,
    }
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts.items() if value)
    html = f"<h2>HTML, as source</h2><pre>{escape(each.html)}</pre>" if each.html else ""
    source = f'<p><a href="/inbox/{each.number}.eml">Source</a></p>' if each.raw else ""
    back = '<p><a href="/inbox">Inbox</a></p>'
    title = f"<h1>{escape(each.subject or each.id)}</h1>"
    return f"{back}{title}<table>{rows}</table>{_cut(each)}<pre>{escape(each.text)}</pre>{html}{source}"


def _cut(each: Acceptance) -> str:
    return "" if each.is_answered else '<span class="cut">taken, never answered</span>'


def _page(title: str, body: str, *, status: int = 200) -> Response:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><link rel="stylesheet" href="/inbox/style.css">'
    text = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return Response(text, status_code=status, media_type="text/html", headers=GUARDS)


def _json(body: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=GUARDS)
