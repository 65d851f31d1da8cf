"""What an entrypoint's cold start pays for."""

import json
import subprocess
import sys

import pytest

from support.entrypoints import ROOT

HEAVY = ("boto3", "botocore", "PIL", "cryptography", "qcloud_cos", "tencentcloud", "typer", "mcp")

_LOADED = """
import json, sys
sys.path[:0] = [{root!r}, {shared!r}]
import functions.{cloud}.handler
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("cloud", ["aws", "cloudbase"])
@pytest.mark.parametrize(
    "storage",
    [
        "s3://a-bucket",
        "cos://pictures-1250000000?region=ap-shanghai",
        "cloudbase://env-1",
        "file:///tmp/pictures",
    ],
)
def test_importing_an_entrypoint_loads_no_cloud_sdk(cloud: str, storage: str):
    program = _LOADED.format(root=str(ROOT), shared=str(ROOT / "shared"), cloud=cloud)
    environ = {"FAL_IMAGE_STORAGE_URL": storage, "AWS_REGION": "eu-west-1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    loaded = json.loads(done.stdout)
    assert "fal_image.app" in loaded
    assert [name for name in HEAVY if name in loaded] == []
