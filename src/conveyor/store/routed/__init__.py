"""One store made of several: each queue lives in one of them, as the routes say."""

from conveyor.store.routed.store import RoutedStore

__all__ = ["RoutedStore"]
