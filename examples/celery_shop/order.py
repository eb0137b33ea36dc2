"""`python order.py`: calls tasks, and waits for them."""

from __future__ import annotations

import shop
from tasks import add, fetch, refund

assert shop.app
total = add.delay(2, 3)
later = add.apply_async((4, 5), countdown=1, priority=9, expires=60)
page = fetch.delay("example.org")
failed = refund.delay(7)
print(total.get(timeout=30), later.get(timeout=30), page.get(timeout=30), page.state)
print(type(failed.get(timeout=30, propagate=False)).__name__, failed.state)
