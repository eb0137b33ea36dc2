"""One verb of one peer: what it is told, then one line of JSON.

    python -m bench.peers bench.peers.huey_peer:Huey enqueue --url sqlite:////tmp/x.db --callers 50 --seconds 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.peers import verbs
from bench.peers.contract import Answer, Peer, find_peer
from bench.peers.pace import Flow, Pace

VERBS = ("describe", "left", "fill", "enqueue", "bulk", "trickle", "pump", "work")


def main() -> None:
    arguments = _parser().parse_args()
    print(json.dumps(_obey(find_peer(arguments.target), arguments)), flush=True)


def _obey(peer: Peer, told: argparse.Namespace) -> Answer:
    if told.verb == "work":
        return verbs.work(peer, told.url, told.marks, json.loads(told.settings))
    calls = {
        "describe": verbs.describe,
        "left": verbs.left,
        "fill": lambda peer: verbs.fill(peer, told.count),
        "enqueue": lambda peer: verbs.enqueue(peer, told.callers, told.seconds),
        "bulk": lambda peer: verbs.bulk(peer, told.batch, told.seconds),
        "trickle": lambda peer: verbs.trickle(peer, Pace(told.sent, told.marks, told.rate, told.seconds)),
        "pump": lambda peer: verbs.pump(peer, _flow(told)),
    }
    return verbs.run(verbs.opened(peer, told.url, calls[told.verb]))


def _flow(told: argparse.Namespace) -> Flow:
    return Flow(told.marks, batch=told.batch, ahead=told.ahead, seconds=told.seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", help="module:Class")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--marks", type=Path, help="where handled messages are noted")
    parser.add_argument("--sent", type=Path, help="where sent messages are noted")
    parser.add_argument("--settings", default="{}", help="of a worker, as JSON")
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--ahead", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    return parser


if __name__ == "__main__":
    main()
