"""Cloudflare's API as a client: queues that live in a Cloudflare account, or in another conveyor, as a store.

    cloudflare://ACCOUNT                                      all queues of an account
    cloudflare://ACCOUNT/QUEUE                                this one only
    cloudflare://ACCOUNT?api=http://127.0.0.1:8787            of another conveyor

`store.urls` finds it here by the scheme. Way in: `store` (what a store is asked), `sending` and `pulling` (one queue),
`directory` (queues and their settings), `client` (one request, tried again), `wire` (what travels), `address`.
"""

from conveyor.remote.store import RemoteStore

__all__ = ["RemoteStore"]
