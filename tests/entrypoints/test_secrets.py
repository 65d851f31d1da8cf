"""A canary in every secret: it must not come out in an answer or a log line."""

import json
from collections.abc import Callable

import pytest

from fal_image.dev.emulator import Emulator
from support.entrypoints import FAL_KEY, THROUGH, request

Configure = Callable[..., None]
CURL = {"prompt": "canary0prompt of a cat"}


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_no_secret_and_no_prompt_is_in_any_answer_or_log_line(
    configured: Configure, fal: Emulator, cloud: str, capfd: pytest.CaptureFixture[str]
):
    through = THROUGH[cloud]
    said = []

    def ask(**changes: object) -> None:
        response = through(request(**({"body": CURL} | changes)))  # type: ignore[arg-type]
        said.append(response.read().decode("utf-8", "replace"))
        said.extend(f"{name}: {value}" for name, value in response.headers)

    ask()
    ask(key=FAL_KEY)
    ask(key="canary0wrong0key")
    ask(headers={"x-api-key": "canary0wrong0key"}, key=None)
    ask(path="/links", body={"fileID": "file:///canary"})
    for kind, on in [
        ("429", "submit"),
        ("503", "submit"),
        ("502-nginx", "submit"),
        ("lost", "submit"),
        ("error", "result"),
        ("null-payload", "result"),
        ("vanished", "file"),
        ("mistyped", "file"),
    ]:
        fal.fault(kind, on=on)
        ask()
    configured(FAL_KEY="revoked:canary0secret")
    ask()
    configured(FAL_IMAGE_SECRET="canary0short", FAL_KEY="canary0nocolon")
    ask()
    captured = capfd.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["message"] == "request"]) == len(
        [text for text in said if text.startswith("{")]
    )
    for text in [*said, captured.out, captured.err]:
        # The answer may repeat the prompt to whoever sent it; nothing else may repeat anything.
        assert "canary" not in text.replace("canary0prompt of a cat", "") or text is captured.err
    assert "canary" not in captured.err
