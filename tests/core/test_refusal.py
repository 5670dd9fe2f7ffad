import pytest

from ccproxy_supervisor.core.refusal import refusal


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/v1/messages", {}), ("/v1/messages/batches", {}), ("/v1/models", {"anthropic-version": "2023-06-01"})],
)
def test_anthropic_s_clients_are_told_in_their_shape(path, headers):
    told = refusal(401, path, headers)
    assert (told["type"], told["error"]["type"]) == ("error", "authentication_error")
    assert refusal(404, path, headers)["error"]["type"] == "not_found_error"


def test_others_are_told_as_openai_does():
    assert refusal(401, "/v1/responses", {})["error"]["code"] == "invalid_api_key"
    told = refusal(404, "/v1/files", {})["error"]
    assert (told["code"], told["type"]) == ("unknown_url", "invalid_request_error")
    assert told["message"].startswith(
        "/v1/files is not offered here; the owner of this proxy may add it to traefik.paths"
    )


def test_a_long_path_is_not_said_back_whole():
    assert len(refusal(404, "/" + "x" * 10_000, {})["error"]["message"]) < 300
