"""Concierge: messages that must arrive, exports and cleanup. `python -m conveyor_apps.concierge` runs it.

How the rooms hang together, and who fills which:

    endpoints -> producer -> queue `message-delivery` -> processors -> providers | exports | cleanup
                    |                                        |
                    +------------- messages (states and history, one transaction with the send) -------------+

- `processors.process(job, context)` picks one of four: `send` for e-mail and SMS (it calls `providers.DeliveryService`),
  `exports.run_export(job, context)` and `cleanup.run_cleanup(job, context)`.
- `providers.open_providers(settings.providers) -> DeliveryService` is what a room opens;
  `providers.receipts.declare_receipts` verifies what comes in at `POST /webhooks/twilio` and `/webhooks/resend`.
- `exports`: `check_filters(filters)`, `run_export(job, context)`, which writes `concierge_exports` as it goes on, and
  `open_link(room, export, signature)`; `cleanup`: `run_cleanup(job, context)`, `declare_schedules(app, doorway)`.
- `safety.open_safety(settings.watch) -> Safety` gives `context.safety`: `breadcrumb`, `capture`, `count`, `observe`,
  and is told of every event by `messages` and `processors`; `safety.redact(text)` cleans what goes into logs.
- `audit.Trail` records who saw and did what, chained by hashes, in the transaction of the change itself.
"""
