"""The official SDKs against a sandbox on a real loopback port: they are understood, and can read what they get."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from conveyor_apps.sandbox import Faults, ProviderName, SandboxSettings, serving

if TYPE_CHECKING:
    import anthropic
    import google.genai
    import openai
    import perplexity

MODEL = "claude-haiku-5-5"


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(SandboxSettings(seed=7)) as url:
        yield url


@pytest.fixture(autouse=True)
def _calm(base: str) -> Iterator[None]:
    yield
    with httpx2.Client(base_url=base, timeout=60) as client:
        for name in ProviderName:
            client.delete(f"/admin/faults/{name}").raise_for_status()


def switch_on(base: str, provider: str, **faults: Any) -> None:
    httpx2.put(f"{base}/admin/faults/{provider}", json=faults, timeout=60).raise_for_status()


class Sdks:
    """Opens the official clients, and closes them with the stack."""

    def __init__(self, base: str, stack: ExitStack) -> None:
        self.base = base
        self._stack = stack
        self._googles: dict[tuple[str, str], google.genai.Client] = {}

    def claude(self, key: str = "key") -> "anthropic.Anthropic":
        import anthropic

        url = f"{self.base}/anthropic"
        return self._stack.enter_context(anthropic.Anthropic(base_url=url, api_key=key, max_retries=0))

    def grok(self, key: str = "key") -> "openai.OpenAI":
        import openai

        return self._stack.enter_context(openai.OpenAI(base_url=f"{self.base}/xai/v1", api_key=key, max_retries=0))

    def sonar(self, key: str = "key") -> "perplexity.Perplexity":
        import perplexity

        url = f"{self.base}/perplexity"
        return self._stack.enter_context(perplexity.Perplexity(base_url=url, api_key=key, max_retries=0))

    def veo(self, key: str = "key") -> "google.genai.Client":
        from google.oauth2.credentials import Credentials

        token = Credentials(token=key)  # type: ignore[no-untyped-call]  # it has no types
        return self._google(
            "agent-platform", key, vertexai=True, project="p", location="us-central1", credentials=token
        )

    def omni(self, key: str = "key") -> "google.genai.Client":
        return self._google("omni", key, api_key=key)

    def _google(self, name: str, key: str, **how: Any) -> "google.genai.Client":
        import google.genai

        if (name, key) not in self._googles:
            client = google.genai.Client(**how, http_options={"base_url": f"{self.base}/{name}"})
            self._stack.callback(client.close)
            self._googles[name, key] = client
        return self._googles[name, key]


@pytest.fixture
def sdks(base: str) -> Iterator[Sdks]:
    with ExitStack() as stack:
        yield Sdks(base, stack)


def first_title(base: str) -> str:
    movies = httpx2.get(f"{base}/admin/movies", timeout=60).json()["movies"]
    return str(movies[0]["title"])


def ask_claude(sdks: Sdks, **changes: Any) -> Any:
    words: dict[str, Any] = {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "Roast it"}]}
    return sdks.claude(changes.pop("key", "key")).messages.create(**{**words, **changes})


def test_anthropic_sdk_reads_a_roast_that_names_the_movie(sdks: Sdks) -> None:
    title = first_title(sdks.base)
    message = ask_claude(sdks, messages=[{"role": "user", "content": f"Roast the movie {title}."}])
    assert message.stop_reason == "end_turn"
    assert message.content[0].text
    assert message.usage.output_tokens > 10
    assert message._request_id.startswith("req_")


def test_anthropic_sdk_streams_the_same_words_it_gets_whole(sdks: Sdks) -> None:
    messages = [{"role": "user", "content": f"Roast {first_title(sdks.base)}"}]
    whole = ask_claude(sdks, messages=messages)
    with sdks.claude().messages.stream(model=MODEL, max_tokens=300, messages=messages) as stream:  # type: ignore[arg-type]  # plain dictionaries, as people write them
        streamed = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert streamed == whole.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_anthropic_sdk_stops_at_max_tokens(sdks: Sdks) -> None:
    message = ask_claude(sdks, max_tokens=3)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_anthropic_sdk_counts_tokens(sdks: Sdks) -> None:
    counted = sdks.claude().messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x" * 40}])
    assert counted.input_tokens == 10


def test_anthropic_sdk_sees_the_one_hour_cache_written_then_read(sdks: Sdks) -> None:
    control = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "You roast movies, never people. " * 40, "cache_control": control}]
    first, second = (ask_claude(sdks, system=system).usage for _ in range(2))
    assert first.cache_creation_input_tokens == 320
    assert first.cache_creation.ephemeral_1h_input_tokens == 320
    assert first.cache_read_input_tokens == 0
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 320)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (529, "OverloadedError"),
        (500, "InternalServerError"),
        (504, "GatewayTimeoutError"),
        (403, "PermissionDeniedError"),
    ],
)
def test_anthropic_sdk_raises_its_own_error(sdks: Sdks, status: int, error: str) -> None:
    import anthropic

    switch_on(sdks.base, "anthropic", error_every=1, error_status=status)
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask_claude(sdks)
    assert caught.value.status_code == status
    assert error in {parent.__name__ for parent in type(caught.value).__mro__}


def test_anthropic_sdk_raises_authentication_and_not_found_errors(sdks: Sdks) -> None:
    import anthropic

    with pytest.raises(anthropic.AuthenticationError):
        ask_claude(sdks, key="wrong-key")
    with pytest.raises(anthropic.NotFoundError):
        ask_claude(sdks, model="gpt-1")


def test_anthropic_sdk_sees_retry_after(sdks: Sdks) -> None:
    import anthropic

    switch_on(sdks.base, "anthropic", rate_limit_every=1, retry_after_s=17)
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask_claude(sdks)
    assert caught.value.response.headers["retry-after"] == "17"
    assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]  # the body is any object


def test_openai_sdk_reads_xai_responses(sdks: Sdks) -> None:
    title = first_title(sdks.base)
    response = sdks.grok().responses.create(
        model="grok-4.5", input=f"Roast {title}", instructions="be funny", store=False
    )
    assert response.status == "completed"
    assert response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_openai_sdk_reads_an_answer_cut_short(sdks: Sdks) -> None:
    response = sdks.grok().responses.create(model="grok-4.5", input="Roast it", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_openai_sdk_reads_xai_chat(sdks: Sdks) -> None:
    said: list[Any] = [{"role": "system", "content": "be funny"}, {"role": "user", "content": "Roast it"}]
    chat = sdks.grok().chat.completions.create(model="grok-4.5", messages=said, max_tokens=100)
    assert chat.choices[0].message.content
    assert chat.choices[0].finish_reason == "stop"


def test_xai_wrong_key_is_a_400_and_flat(sdks: Sdks) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as caught:
        sdks.grok(key="wrong-key").responses.create(model="grok-4.5", input="x")
    body = caught.value.response.json()
    assert body["code"] == "Client specified an invalid argument"
    assert body["error"].startswith("Incorrect API key provided")


def test_openai_sdk_sees_xai_rate_limit(sdks: Sdks) -> None:
    import openai

    switch_on(sdks.base, "xai", rate_limit_every=1, retry_after_s=3)
    with pytest.raises(openai.RateLimitError) as caught:
        sdks.grok().responses.create(model="grok-4.5", input="x")
    assert caught.value.response.headers["retry-after"] == "3"


def test_perplexity_sdk_reads_research_with_sources(sdks: Sdks) -> None:
    title = first_title(sdks.base)
    response = sdks.sonar().responses.create(
        model="perplexity/sonar", input=f"{title} reviews", instructions="brief", tools=[{"type": "web_search"}]
    )
    assert [item.type for item in response.output] == ["search_results", "message"]
    assert title in response.output_text
    assert response.usage is not None
    assert response.usage.cost is not None
    assert response.usage.cost.total_cost > 0


def test_perplexity_sdk_searches(sdks: Sdks) -> None:
    found = sdks.sonar().search.create(query=f"{first_title(sdks.base)} reviews", max_results=5)
    assert len(found.results) == 5
    assert all(result.url.startswith("https://") for result in found.results)


def test_perplexity_sdk_raises_its_own_errors(sdks: Sdks) -> None:
    import perplexity

    with pytest.raises(perplexity.BadRequestError) as invalid:
        sdks.sonar().responses.create(model="sonar", input="x")
    assert invalid.value.response.json()["error"]["type"] == "invalid_model"
    with pytest.raises(perplexity.AuthenticationError):
        sdks.sonar(key="wrong-key").search.create(query="x")
    switch_on(sdks.base, "perplexity", rate_limit_every=1)
    with pytest.raises(perplexity.RateLimitError) as limited:
        sdks.sonar().search.create(query="x")
    assert limited.value.response.json()["error"]["type"] == "request_rate_limit_exceeded"


def advance(base: str, seconds: float) -> None:
    httpx2.post(f"{base}/admin/clock", json={"advance_s": seconds}, timeout=60).raise_for_status()


def order_veo(sdks: Sdks, prompt: str = "a cat", key: str = "key", **config: Any) -> Any:
    source = {"prompt": prompt}
    return sdks.veo(key).models.generate_videos(model="veo-3.1-generate-001", source=source, config=config)  # type: ignore[arg-type]  # plain dictionaries, as people write them


@pytest.mark.parametrize("folder", ["", "gs://videos/out"])
def test_google_sdk_orders_polls_and_reads_a_veo_video(sdks: Sdks, folder: str) -> None:
    config: dict[str, Any] = {"duration_seconds": 4, "aspect_ratio": "9:16", "labels": {"generation": "gen_1"}}
    operation = order_veo(sdks, **config, **({"output_gcs_uri": folder} if folder else {}))
    assert not operation.done
    assert not see_veo(sdks, operation).done
    advance(sdks.base, 60)
    ended = see_veo(sdks, operation)
    assert ended.done
    video = ended.result.generated_videos[0].video
    assert video.mime_type == "video/mp4"
    assert (video.uri or "").startswith(folder)
    assert folder or video.video_bytes[4:8] == b"ftyp"
    submissions = httpx2.get(f"{sdks.base}/admin/submissions", timeout=60).json()["submissions"]
    assert submissions[-1]["client_id"] == "gen_1"


def test_google_sdk_reads_how_veo_fails(sdks: Sdks) -> None:
    filtered, failed = order_veo(sdks, "#unsafe"), order_veo(sdks, "#fails")
    advance(sdks.base, 60)
    result = see_veo(sdks, filtered).result
    assert (result.rai_media_filtered_count, result.generated_videos) == (1, None)
    assert "usage guidelines" in result.rai_media_filtered_reasons[0]
    assert see_veo(sdks, failed).error == {"code": 13, "message": "Internal error encountered."}


def test_google_sdk_raises_its_own_errors(sdks: Sdks) -> None:
    from google.genai import errors

    def refused(kind: type[errors.APIError], prompt: str = "a cat", key: str = "key") -> errors.APIError:
        with pytest.raises(kind) as caught:
            order_veo(sdks, prompt, key)
        return caught.value

    invalid, wrong = refused(errors.ClientError, "#refused"), refused(errors.ClientError, key="wrong-key")
    assert [(each.code, each.status) for each in (invalid, wrong)] == [
        (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"),
    ]  # fmt: skip
    switch_on(sdks.base, "agent-platform", rate_limit_every=1, retry_after_s=7)
    limited = refused(errors.ClientError)
    assert (limited.code, limited.status) == (429, "RESOURCE_EXHAUSTED")
    body: Any = limited.details
    assert body["error"]["details"][0]["retryDelay"] == "7s"
    switch_on(sdks.base, "agent-platform", error_every=1, error_status=503)
    assert refused(errors.ServerError).status == "UNAVAILABLE"


def see_veo(sdks: Sdks, operation: Any) -> Any:
    return sdks.veo().operations.get(operation)


def see_omni(sdks: Sdks, id: str) -> Any:
    return sdks.omni().interactions.get(id)


def create_omni(sdks: Sdks, prompt: str, delivery: str) -> Any:
    wanted: Any = {
        "type": "video",
        "aspect_ratio": "16:9",
        "resolution": "720p",
        "delivery": delivery,
        "duration": "4s",
    }
    return sdks.omni().interactions.create(
        model="gemini-omni-1.1-flash",
        background=True,
        input=prompt,
        response_format=wanted,
        labels={"generation": "g2"},
    )


@pytest.mark.parametrize("delivery", ["inline", "uri"])
def test_google_sdk_orders_polls_and_reads_an_omni_video(sdks: Sdks, delivery: str) -> None:
    interaction = create_omni(sdks, "a cat", delivery)
    assert interaction.status == "in_progress"
    assert see_omni(sdks, interaction.id).status == "in_progress"
    advance(sdks.base, 60)
    ended = see_omni(sdks, interaction.id)
    assert ended.status == "completed"
    video = ended.steps[-1].content[0]
    assert (video.type, video.mime_type) == ("video", "video/mp4")
    content = sdks.omni().files.download(file=video.uri) if delivery == "uri" else base64.b64decode(video.data)
    assert content[4:8] == b"ftyp"


def test_google_sdk_reads_how_omni_fails(sdks: Sdks) -> None:
    filtered, failed = create_omni(sdks, "#unsafe", "uri"), create_omni(sdks, "#fails", "uri")
    advance(sdks.base, 60)
    ended = [see_omni(sdks, each.id) for each in (filtered, failed)]
    assert [each.status for each in ended] == ["failed", "failed"]
    assert "usage guidelines" in ended[0].steps[-1].error.message
    assert ended[1].steps[-1].error.code == 13


def test_faults_given_at_start_are_in_force() -> None:
    faults = {ProviderName.XAI: Faults(rate_limit_every=1, retry_after_s=9)}
    with serving(SandboxSettings(faults=faults)) as url:
        answer = httpx2.post(f"{url}/xai/v1/responses", json={}, headers={"Authorization": "Bearer k"}, timeout=60)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
