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
        "POST /webhooks/fal/01m7z8twx4w4rchddrd0pg6y5d/canary: 401",
        "https://queue.fal.run/m?fal_webhook=https%3A%2F%2Fa.example%2Fwebhooks%2Ffal%2Fj%2Fcanary",
        "there is no route /t1.canary.canary",
        "ticket t1.eyJpZCI6ImNhbmFyeSJ9-_.canary_-canary",
        f"a key: fi_{'0123456789abcdefghjkmnpqrstvwxyz'.replace('cdefgh', 'canary')}",
    ],
)
def test_credentials_are_recognised_by_their_form(text: str):
    assert "canary" not in redact(text.replace("'x-api-key'", '"x-api-key"'))


@pytest.mark.parametrize(
    "secret",
    [
        "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9m_-",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
    ],
)
def test_a_secret_that_is_known_by_its_form_needs_no_name(secret: str):
    assert redact(f"said {secret}, twice: {secret}") == "said ***, twice: ***"


def test_a_secret_is_replaced_as_json_spells_it():
    secret = 'back\\slash"quote-canary'
    stream = io.StringIO()
    configure("INFO", [secret], stream)
    logger.error("lost %s", secret)
    assert "canary" not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_of_a_secret_that_holds_another_nothing_stays():
    stream = io.StringIO()
    configure("INFO", ["canary-one", "canary-one-and-more"], stream)
    logger.error("canary-one-and-more")
    assert json.loads(stream.getvalue())["message"] == "***"


def test_secrets_are_those_of_the_moment():
    stream, secrets = io.StringIO(), ["canary-old"]
    configure("INFO", secrets, stream)
    secrets[0] = "canary-new"
    logger.error("canary-new")
    assert "canary" not in stream.getvalue()


def test_ordinary_text_stays():
    assert redact("The key idea: a design=good picture") == "The key idea: a design=good picture"
