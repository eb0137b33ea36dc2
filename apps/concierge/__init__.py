"""Concierge: messages that must arrive, exports and cleanup. `python -m conveyor_apps.concierge` runs it.

How the rooms hang together, and who fills which:

    endpoints -> producer -> queue `message-delivery` -> processors -> providers | exports | cleanup
                    |                                        |
                    +------------ messages (states and history, in one transaction with the send) ------------+

- `processors.process(job, context, carrier)` picks one of four: e-mail and SMS go to `providers.DeliveryService`,
  exports to `exports.run_export`, cleanups to `cleanup.run_cleanup`.
- `providers.opening` opens the carriers that the settings name; `providers.receipts` takes in what they tell later.
- `safety` tells operators how it goes, without names, addresses and contents.
- `audit.Trail` records who saw and did what, chained by hashes, in the transaction of the change itself.
"""
