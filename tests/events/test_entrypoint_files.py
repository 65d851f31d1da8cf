from __future__ import annotations

import os
import subprocess
from pathlib import Path

FUNCTIONS = Path(__file__).parents[2] / "functions"
BOOTSTRAP = FUNCTIONS / "cloudbase_http" / "scf_bootstrap"


def test_the_two_event_entrypoints_have_the_same_shape() -> None:
    aws, cloudbase = (
        (FUNCTIONS / name / "handler.py").read_text(encoding="utf-8").splitlines()
        for name in ("aws", "cloudbase")
    )
    assert len(aws) < 45
    different = [pair for pair in zip(aws, cloudbase, strict=True) if pair[0] != pair[1]]
    assert len(different) == 2  # the first line and the import of the platform's `handle`


def test_the_bootstrap_is_what_cloudbase_can_execute() -> None:
    raw = BOOTSTRAP.read_bytes()
    assert raw.startswith(b"#!/bin/bash\n")
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    assert os.stat(BOOTSTRAP).st_mode & 0o777 == 0o755
    subprocess.run(["bash", "-n", str(BOOTSTRAP)], check=True)
