"""Everything a server can do wrong: one typed line with the fix, no answer made up, no key shown."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from zoomzero.errors import ConfigError, ServerError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.remote import client as module
from zoomzero.policy.remote.policy import RemotePolicy
from zoomzero.policy.remote.probe import probe_clip
from zoomzero.policy.remote.settings import ServerSettings, read_server

pytest.importorskip("openai")
CHAT = [Turn("user", (probe_clip(), "What?"))]
SECRET = "sk-very-secret-key"


@pytest.fixture
def server() -> Any:
    with FakeServer(ScriptedPolicy(says("B"), rates(1, 8), forever=True)) as one:
        yield one


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.0)
    monkeypatch.delenv("ZOOMZERO_API_KEY", raising=False)


def remote(server: FakeServer, **more: Any) -> RemotePolicy:
    return RemotePolicy(ServerSettings(url=server.url, model="fake", **({"retries": 0} | more)))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("closes", r"cannot be reached \(.*\); start it, or correct the address"),
        ("truncates", r"cannot be reached \(.*\); start it, or correct the address"),
        ("no choices", r"its reply is not what the protocol says \(no choices\); check that the address is"),
        ("unfinished", r"its reply is not what the protocol says \(a choice that ended by None\); check"),
        ("no message", r"its reply is not what the protocol says \(a choice without a message\); check"),
        ("garbage", r"its reply is not what the protocol says \(Expecting value.*\); check"),
        ("garbled logprobs", r"its reply is not .* \(a token without its log-probability\); check"),
        ("garbled costs", r"its reply is not what the protocol says \(costs that are no numbers\); check"),
        ("html", r"answers with an error \(502: an HTML page\); look at the server's log"),
        ("redirects", r"redirects to http://elsewhere.example/v1; give --model that address if you trust it"),
        ("400 bad thing", r"refuses the request \(400: bad thing\); look at the server's log"),
        ("400 maximum context length is 8192 tokens", r"; lower --budget, or start the server with a longer context"),
        ("400 At most 32 image(s) may be provided", r"; start the server with a higher limit"),
        ("401 who are you", r"refuses the key \(401: who are you\); set the environment variable ZOOMZERO_API_KEY"),
        ("404 gone", r"has no such path or model \(404: gone\); run `zoomzero doctor --server URL`"),
        ("413 body", r"finds the request too large \(413: body\); lower --budget, set server.image_format=jpeg"),
        ("429 slow down", r"is asked too much \(429: slow down\); lower server.concurrency"),
        ("500 oops\nline two", r"failed \(500: oops line two\); look at the server's log"),
        ("503 loading", r"is not ready \(503: loading\); wait until it has loaded the model"),
    ],
)
def test_every_fault_is_one_typed_line_with_the_fix(server: FakeServer, fault: str, complaint: str) -> None:
    policy = remote(server)
    server.faults = [fault]
    with pytest.raises(ServerError, match=complaint) as caught:
        policy.write(CHAT, 1, Sampling())
    assert str(caught.value).startswith(f"model {server.model}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert policy.write(CHAT, 1, Sampling()).completions[0].text  # and it goes on when the server does


@pytest.mark.parametrize(
    "fault", ["closes", "truncates", "no choices", "unfinished", "garbage", "html", "429 x", "500 x"]
)
def test_what_may_pass_is_tried_again(server: FakeServer, fault: str) -> None:
    policy = remote(server, retries=2)
    server.faults = [fault, fault]
    assert policy.write(CHAT, 1, Sampling()).completions[0].finished
    assert server.faults == []


@pytest.mark.parametrize("fault", ["400 x", "401 x", "404 x", "413 x", "redirects"])
def test_what_will_not_pass_is_not_tried_again(server: FakeServer, fault: str) -> None:
    policy = remote(server, retries=2)
    server.faults = [fault, fault]
    with pytest.raises(ServerError):
        policy.write(CHAT, 1, Sampling())
    assert server.faults == [fault]


def test_a_slow_server_is_given_up(server: FakeServer) -> None:
    policy = remote(server, timeout_s=0.5)
    server.faults = ["slow"]
    with pytest.raises(ServerError, match=r"no reply within 0\.5 s; raise server\.timeout_s"):
        policy.write(CHAT, 1, Sampling())


def test_nobody_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ServerError, match=rf"^model {url}#x: cannot be reached \(.*\); start it") as caught:
        RemotePolicy(ServerSettings(url=url, model="x", retries=0))
    assert caught.value.exit_code == 4


def test_a_model_that_is_not_served(server: FakeServer) -> None:
    with pytest.raises(ServerError, match=r"has no model other; write http.*/v1#NAME with one of: fake"):
        RemotePolicy(ServerSettings(url=server.url, model="other", retries=0))


@pytest.mark.parametrize("listed", [None, (), ("another",)])
def test_a_model_that_no_list_names_is_asked_for(listed: Any) -> None:
    """transformers serve lists its cache, and answers 500 where that is not there."""
    with FakeServer(ScriptedPolicy(says("B"), rates(1, 8), forever=True), Abilities(listed=listed)) as server:
        assert remote(server).facts.model == "fake"
        with pytest.raises(ServerError, match=r"has no model other; write http.*/v1#NAME with one of: "):
            RemotePolicy(ServerSettings(url=server.url, model="other", retries=0))
        if not listed:
            with pytest.raises(ServerError, match=r"failed \(500|serves none; which one is meant is not said"):
                RemotePolicy(ServerSettings(url=server.url, retries=0))


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    brain = ScriptedPolicy(says("B"), rates(1, 8), forever=True)
    with FakeServer(brain, Abilities(key="another")) as server:
        monkeypatch.setenv("ZOOMZERO_API_KEY", SECRET)
        with pytest.raises(ServerError) as caught:
            remote(server)
        assert "Incorrect API key provided: Bearer ***" in str(caught.value)
        assert SECRET not in str(caught.value)
        monkeypatch.setenv("MY_KEY", "another")
        policy = remote(server, api_key_env="MY_KEY")
        assert "another" not in str(policy.facts.to_dict()) + policy.name + repr(policy.settings)
    with FakeServer(brain) as server:
        monkeypatch.setenv("TENANT", "secret-tenant")
        remote(server, headers={"X-Tenant": "env:TENANT", "X-Plain": "1"})
        sent = {name.lower(): value for name, value in server.seen[-1].headers.items()}
        assert (sent["x-tenant"], sent["x-plain"]) == ("secret-tenant", "1")
        with pytest.raises(ConfigError, match=r"server\.headers\.X: the environment has no NOWHERE; export NOWHERE"):
            remote(server, headers={"X": "env:NOWHERE"})


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("http://user:sk-abc@host/v1#m", "holds more than host, port and path; put the key into the environment"),
        ("http://host/v1?key=sk-abc#m", "holds more than host, port and path; put the key into the environment"),
        ("http://#m", "is no address; write http://HOST:PORT/v1#NAME"),
    ],
)
def test_addresses_with_keys_are_refused_without_showing_them(model: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_server(model)
    assert complaint in str(caught.value)
    assert "sk-abc" not in str(caught.value)


def test_addresses_are_read() -> None:
    server, _, left = read_server("https://host:1/#a/b", ["server.timeout_s=3", "coarse.fps=1"])
    assert (server.url, server.model, server.root, server.timeout_s) == (
        "https://host:1/v1",
        "a/b",
        "https://host:1",
        3.0,
    )
    assert left == ["coarse.fps=1"]
    with pytest.raises(ConfigError, match="server: colour"):
        read_server("http://host/v1#m", ["server.colour=1"])


def test_a_chat_template_goes_with_every_request(server: FakeServer, tmp_path: Any) -> None:
    path = tmp_path / "template.jinja"
    path.write_text("{{ messages }}", encoding="utf-8")
    remote(server, chat_template=str(path)).write(CHAT, 1, Sampling())
    assert {one.body["chat_template"] for one in server.seen} == {"{{ messages }}"}
    with pytest.raises(ConfigError, match=r"^server\.chat_template: cannot be read \(.*\); name a file of text"):
        remote(server, chat_template=str(tmp_path / "none.jinja"))
    policy = remote(server, chat_template=str(path))
    server.faults = ["400 Chat template is passed with request, but --trust-request-chat-template is not set."]
    with pytest.raises(ServerError, match="start vLLM with --trust-request-chat-template"):
        policy.write(CHAT, 1, Sampling())
