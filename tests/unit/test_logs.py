import io
import json

import pytest

from fal_image.logs import configure, logger, redact


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure("INFO", ["canary-secret"], stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.handlers.clear()


def test_a_line_is_one_json_object_with_its_fields(lines):
    logger.info("request", extra={"fields": {"route": "POST /", "status": 200}})
    (line,) = lines()
    assert line["message"] == "request"
    assert line["route"] == "POST /"
    assert line["level"] == "INFO"
    assert line["time"].endswith("+00:00")


def test_a_secret_is_replaced_wherever_it_stands(lines):
    logger.error("lost %s", "canary-secret", extra={"fields": {"x": ["a canary-secret b"]}})
    assert "canary" not in json.dumps(lines())


def test_an_exception_is_told_without_its_text(lines):
    try:
        raise ValueError("what a caller sent")
    except ValueError:
        logger.exception("broke")
    (line,) = lines()
    assert line["exception"] == "ValueError"
    assert "test_logs.py" in line["traceback"]
    assert "caller sent" not in json.dumps(line).replace(
        'raise ValueError(\\"what a caller sent', ""
    )


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Key canary:canary",
        "authorization=Bearer canary",
        "'x-api-key': canary",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=canary%2F&X-Amz-Signature=canary",
        "http://127.0.0.1/files/k?exp=1&sig=canary",
        "wss://fal.run/x?fal_jwt_token=canary&a=1",
    ],
)
def test_credentials_are_recognised_by_their_form(text: str):
    assert "canary" not in redact(text.replace("'x-api-key'", '"x-api-key"'))


def test_ordinary_text_stays():
    assert redact("The key idea: a design=good picture") == "The key idea: a design=good picture"
