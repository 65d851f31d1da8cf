"""A canary in every secret: it comes out of the proxy in no answer and in no log line."""

from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import RUN, SCHNELL
from support.entrypoints import FAL_KEY, KEY
from support.instances import SECRET, Answer, instance
from support.proxy_calls import AFTERWARDS, Door, Form


def test_no_secret_and_no_prompt_is_in_any_answer_or_log_line(
    tmp_path: Path, form: Form, capfd: pytest.CaptureFixture[str]
):
    cat = {"prompt": "canary0prompt of a cat"}
    said: list[Answer] = []
    with Emulator() as fal:
        door = Door(instance(fal, tmp_path), form)
        mine = door.submitted(cat)
        said += [door.afterwards(what, mine) for what in ("status", "follow", "cancel")]
        for kind in ("500", "lost", "502-nginx", "409", "reset"):
            for on in ("submit", "status", "stream", "result", "cancel", "run-stream"):
                fal.fault(kind, on=on)
            said += [door.submit(cat), door.ask("POST", f"{RUN}/{SCHNELL}/stream", cat)]
            said += [door.afterwards(what, mine) for what in AFTERWARDS]
        for key in (FAL_KEY, "canary0wrong0key", None):
            said.append(door.submit(cat, key=key))
        revoked = Door(instance(fal, tmp_path, FAL_KEY="revoked:canary0secret"), form)
        said += [revoked.submit(cat), revoked.ask("POST", f"{RUN}/{SCHNELL}/stream", cat)]
        said.append(revoked.afterwards("status", mine))
    captured = capfd.readouterr()
    secrets = ["canary0id", "canary0secret", "canary0wrong", SECRET, KEY]
    for text in [*(f"{answer.headers} {answer.body!r}" for answer in said), captured.err]:
        assert not [secret for secret in secrets if secret in text]
    assert "canary" not in captured.err + captured.out
