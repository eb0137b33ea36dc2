"""Finds the endpoint of a path: a tree of segments, so that a hundred routes cost what ten do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from conveyor.model.refusals import InvalidRequestError
from conveyor.server.endpoint import Endpoint

KNOWN_MAX: Final = 2_048
"""Paths that came lately and need not be looked for."""
_REST: Final = ":path"


class _Node:
    __slots__ = ("children", "endpoints", "parameter", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: dict[str, Endpoint] = {}
        """For `{name:path}`: by method."""
        self.endpoints: dict[str, Endpoint] = {}
        """By method."""


class Found:
    """An endpoint and the names in its path; or only the methods that the path has."""

    __slots__ = ("endpoint", "methods", "path")

    def __init__(self, endpoint: Endpoint | None, methods: Iterable[str], path: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self.methods = methods
        self.path = path


class Routes:
    """Endpoints by their paths; literal segments go before parameters."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Node()
        self._names: dict[int, list[str]] = {}
        self._known: dict[tuple[str, bytes], Found] = {}
        for endpoint in endpoints:
            self._add(endpoint)

    def _add(self, endpoint: Endpoint) -> None:
        node, names = self._root, []
        by_method = None
        for segment in filter(None, endpoint.path.split("/")):
            if not segment.startswith("{"):
                node = node.children.setdefault(segment, _Node())
                continue
            name = segment[1:-1]
            names.append(name.removesuffix(_REST))
            if name.endswith(_REST):
                by_method = node.rest
                break
            node.parameter = node = node.parameter or _Node()
        by_method = node.endpoints if by_method is None else by_method
        assert endpoint.method not in by_method, f"{endpoint.method} {endpoint.path} is there twice"
        by_method[endpoint.method] = endpoint
        self._names[id(endpoint)] = names

    def find(self, method: str, below: bytes) -> Found:
        """`below` is the raw path under the wire's prefix. `InvalidRequestError` for what is not UTF-8."""
        found = self._known.get((method, below))
        if found is None:
            found = self._find(method, below.decode("latin-1").split("/")[1:])
            if found.endpoint is not None:
                if len(self._known) >= KNOWN_MAX:
                    self._known.clear()
                self._known[method, below] = found
        return found

    def _find(self, method: str, segments: list[str]) -> Found:
        by_method, values = _walk(self._root, segments, 0) or ({}, [])
        endpoint = by_method.get(method)
        if endpoint is None and method == "HEAD":
            endpoint = by_method.get("GET")
        if endpoint is None:
            return Found(None, by_method, {})
        try:
            decoded = [unquote(value, errors="strict") if "%" in value else value for value in values]
        except UnicodeDecodeError as error:
            raise InvalidRequestError("the path is not UTF-8") from error
        return Found(endpoint, by_method, dict(zip(self._names[id(endpoint)], decoded, strict=True)))


def _walk(node: _Node, segments: list[str], at: int) -> tuple[dict[str, Endpoint], list[str]] | None:
    if at == len(segments):
        return (node.endpoints, []) if node.endpoints else None
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None and (found := _walk(child, segments, at + 1)) is not None:
        return found
    if node.parameter is not None and segment and (found := _walk(node.parameter, segments, at + 1)) is not None:
        found[1].insert(0, segment)
        return found
    rest = "/".join(segments[at:])
    return (node.rest, [rest]) if node.rest and rest else None
