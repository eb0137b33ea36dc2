"""The document's API over HTTP: what is made, refused, listed, watched and played."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

from conveyor_apps.generation.web.films import read_range
from conveyor_apps.generation.web.streams import STREAMS_OF_ONE_MAX, Seen, read_seen
from cutmv.kit import wait_until
from generation.served import USER_RATE, Served
from house.source import ROOT

README = ROOT / "apps" / "generation" / "README.md"
Event = tuple[str, str, dict[str, Any]]
"""Id, name, data."""


@contextmanager
def listening(served: Served, id: str, after: str | None = None) -> Iterator[Iterator[Event]]:
    headers = {} if after is None else {"last-event-id": after}
    with served.client.stream("GET", f"/api/generations/{id}/events", headers=headers, timeout=60) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


def _events(response: httpx2.Response) -> Iterator[Event]:
    facts: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            facts[name] = value
        elif "data" in facts:
            yield facts["id"], facts["event"], json.loads(facts["data"])
            facts = {}


def problem(served: Served, response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = response.json()
    assert said["status"] == status
    assert said["detail"]
    assert said["code"] == said["type"].rpartition(":")[2]
    return said


def test_a_video_from_its_prompt_to_its_bytes(served: Served) -> None:
    made = served.create("a paper boat", user="eve", parameters={"duration": 4, "aspectRatio": "9:16"})
    assert made["state"] in ("queued", "processing")
    with listening(served, made["id"]) as events:
        heard = list(events)
    names = [name for _, name, _ in heard]
    assert names[-1] == "end"
    assert names.count("end") == 1
    assert "generation" in names
    seen = [read_seen(id) for id, _, _ in heard]
    assert [(each.seq, each.number) for each in seen] == sorted((each.seq, each.number) for each in seen)
    progress = [data["progress"] for _, name, data in heard if name in ("generation", "end")]
    assert progress == sorted(progress), "progress never goes back"
    ended = heard[-1][2]
    assert ended["state"] == "completed", ended
    assert ended["progress"] == 1
    assert ended["queuePosition"] is None
    assert ended["parameters"]["aspectRatio"] == "9:16"
    assert all(ended["timings"][each] is not None for each in ("waitSeconds", "processingSeconds", "providerSeconds"))
    assert ended == served.get(made["id"])

    with listening(served, made["id"], after=heard[0][0]) as events:
        again = list(events)
    said = [data["text"] for _, name, data in heard if name == "log"]
    assert said == ["Asking the provider", "Storing the video"]
    assert [data["text"] for _, name, data in again if name == "log"] == said[read_seen(heard[0][0]).number > 0 :]
    assert again[-1] == heard[-1], "whoever comes back is told how it ended"
    over = served.client.get(f"/api/generations/{made['id']}/events", headers={"last-event-id": heard[-1][0]})
    assert over.status_code == 204, "and then nothing more"

    video = served.client.get(f"/api/generations/{made['id']}/video")
    assert video.headers["content-type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"
    assert len(video.content) == ended["result"]["size"]
    check_parts(served, f"/api/generations/{made['id']}/video", video.content)


def test_only_so_many_watch_one(served: Served) -> None:
    with served.resting(), ExitStack() as streams:
        made = served.create("watched", user="watched")["id"]
        watching = [streams.enter_context(listening(served, made)) for _ in range(STREAMS_OF_ONE_MAX)]
        assert [next(each)[1] for each in watching] == ["generation"] * STREAMS_OF_ONE_MAX
        assert problem(served, served.client.get(f"/api/generations/{made}/events"), 429)["hint"]
        served.ask("POST", f"/api/generations/{made}/cancel", 200, json={})


def check_parts(served: Served, path: str, body: bytes) -> None:
    """Ranges, as players ask for them."""

    def ask(method: str = "GET", **headers: str) -> httpx2.Response:
        return served.client.request(
            method, path, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )

    part = ask(range="bytes=4-7")
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(body)}"
    assert ask(range="bytes=-3").content == body[-3:]
    assert ask(range=f"bytes={len(body) - 2}-").content == body[-2:]
    assert ask(range=f"bytes={len(body)}-").status_code == 416
    assert ask(range="bytes=0-1,4-5").content == body, "several parts at once are not sent as such"
    assert ask(if_none_match=part.headers["etag"]).status_code == 304
    assert ask(range="bytes=0-1", if_range='"other"').status_code == 200
    head = ask("HEAD")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(body)))
    download = served.client.get(path, params={"download": "1"})
    assert download.headers["content-disposition"].startswith("attachment")


def test_what_is_sent_twice_is_made_once(served: Served) -> None:
    first = served.create("a lighthouse", user="twice", key="k-1")
    assert served.create("a lighthouse", user="twice", key="k-1")["id"] == first["id"]
    assert served.create("a lighthouse", user="other", key="k-1")["id"] != first["id"], "keys are a user's own"
    headers = {"idempotency-key": "k-1"}
    other = served.client.post("/api/generations", json={"userId": "twice", "prompt": "a whale"}, headers=headers)
    assert problem(served, other, 422)["hint"]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"prompt": ""}, 422, "`prompt` has 1 to"),
        ({"prompt": "x" * 5_000}, 422, "`prompt` has 1 to"),
        ({"prompt": None}, 422, "Expected `str`"),
        ({"userId": ""}, 422, "`userId`"),
        ({"userId": "a\nb"}, 422, "`userId`"),
        ({"priority": 10}, 422, "`priority`"),
        ({"parameters": {"duration": 0}}, 422, "`duration`"),
        ({"parameters": {"aspectRatio": "4:3"}}, 422, "aspectRatio"),
        ({"provider": "nobody"}, 422, "provider"),
        ({"surprise": 1}, 422, "surprise"),
        ({"prompt": "x" * 70_000}, 413, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(served: Served, change: dict[str, Any], status: int, words: str) -> None:
    response = served.client.post("/api/generations", json={"userId": "ann", "prompt": "a cat", **change})
    assert words in problem(served, response, status)["detail"]


def test_pages_of_others_and_what_is_not_here(served: Served) -> None:
    body = b'{"userId": "ann", "prompt": "a cat"}'

    def post(**headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return served.client.post(
            "/api/generations", content=body, headers={"content-type": "application/json"} | named
        )

    assert problem(served, post(content_type="text/plain"), 415)["hint"]
    assert problem(served, post(origin="http://evil.example"), 403)["code"] == "other_site"
    assert problem(served, post(sec_fetch_site="cross-site"), 403)["code"] == "other_site"
    assert post(host="evil.example").status_code == 421
    events = "/api/generations/gen_nobody/events"
    assert problem(served, served.client.get(events, headers={"origin": "http://evil.example"}), 403)
    for path in ("/api/generations/gen_nobody", events, "/api/generations/gen_nobody/video", "/api/nothing"):
        problem(served, served.client.get(path), 404)
    problem(served, served.client.request("DELETE", "/api/queue/status"), 405)


def test_the_list_goes_page_by_page(served: Served) -> None:
    with served.resting():
        made = [served.create(f"cloud {number}", user="lister")["id"] for number in range(5)]
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = {"userId": "lister", "limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = served.ask("GET", "/api/generations", 200, params=asked)
            seen += [each["id"] for each in page["generations"]]
            cursor = page["nextCursor"]
        assert seen == made[::-1]
        for id in made:
            assert served.ask("POST", f"/api/generations/{id}/cancel", 200, json={})["state"] == "cancelled"
    found = served.ask("GET", "/api/generations", 200, params={"userId": "lister", "state": "cancelled"})
    assert [each["id"] for each in found["generations"]] == made[::-1]
    for asked in ({"limit": "0"}, {"limit": "many"}, {"state": "asleep"}):
        problem(served, served.client.get("/api/generations", params=asked), 422)


def test_a_vip_waits_behind_vips_only_and_may_leave(served: Served) -> None:
    wait_until(lambda: not served.ask("GET", "/api/queue/status", 200)["waiting"])  # what other tests have left
    with served.resting():
        waiting = [served.create("later", user="vips")["id"] for _ in range(3)]
        vip = served.create("now", user="vips", priority=9)
        assert vip["queuePosition"] == 1
        assert [served.get(each)["queuePosition"] for each in waiting] == [2, 3, 4]
        status = served.ask("GET", "/api/queue/status", 200)
        assert status["mode"] == "queue"
        assert status["waiting"] == 4
        left = served.ask("POST", f"/api/generations/{waiting[0]}/cancel", 200, json={})
        assert (left["state"], left["queuePosition"]) == ("cancelled", None)
        assert served.ask("POST", f"/api/generations/{waiting[0]}/cancel", 200, json={})["state"] == "cancelled"
        assert served.get(waiting[1])["queuePosition"] == 2
    assert served.finished(vip["id"])["state"] == "completed"
    late = served.client.post(f"/api/generations/{vip['id']}/cancel", json={})
    assert problem(served, late, 409)["detail"]
    assert served.ask("GET", "/api/queue/status", 200)["successRate"] > 0


def test_a_user_cannot_take_all_the_room(served: Served) -> None:
    made = [served.create("#refused", user="eager")["id"] for _ in range(USER_RATE)]
    for _ in range(USER_RATE):  # on a slow machine there is room again for one more
        refused = served.client.post("/api/generations", json={"userId": "eager", "prompt": "#refused"})
        if refused.status_code != 201:
            break
    assert problem(served, refused, 429)["hint"].startswith("Try again in")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert served.client.get(f"/api/generations/{made[0]}").status_code == 200


def test_the_readmes_examples(served: Served) -> None:
    """Each `curl` of the README's table, one after another, in one shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    [script] = [each for each in blocks if "/api/queue/status" in each]
    script = script.replace("http://127.0.0.1:8787", served.url)
    command = ["/bin/bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert '"state"' in done.stdout
    assert "event: generation" in done.stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None), ("bytes=0-", range(10)), ("bytes=2-3", range(2, 4)), ("bytes=2-99", range(2, 10)),
        ("bytes=-4", range(6, 10)), ("bytes=-99", range(10)), ("bytes=5-4", None), ("bytes=a-b", None),
        ("bytes=0-1,3-4", None), ("bytes=10-", range(10, 10)), ("bytes=-0", range(10, 10)), ("items=0-1", None),
    ],
)  # fmt: skip
def test_which_bytes_are_asked_for(text: str | None, found: range | None) -> None:
    assert read_range(text, 10) == found


def test_an_events_id_says_what_was_seen() -> None:
    for seen in (Seen(), Seen(7, 12), Seen(7, 12, is_all=True)):
        assert read_seen(str(seen)) == seen
    for text in (None, "", "7", "7.x", "-1.2", "7.12-end-end"):
        assert read_seen(text) == Seen()
