"""What browsers and other programs talk to: the document's API, its streams, the videos, and the page."""

from .endpoints import create_endpoints

__all__ = ["create_endpoints"]
