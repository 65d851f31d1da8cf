"""An unpacked package needs nothing but itself: no import is missing, and it makes a picture.

Made for the Python at hand and started without sight of the environment that the tests run in.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path

import pytest
from scripts.packaging.build import build
from scripts.packaging.targets import CLOUDS

from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import (
    cloudbase_context,
    cloudbase_event,
    function_url_event,
    read_cloudbase_reply,
    read_lambda_reply,
)
from support.entrypoints import FAL_KEY, KEY_SHA256, NOON, request
from support.fake_cloudbase import FakeCloudbase
from support.storages import KEY, S3Rig, cos_rig, moto_server
from support.unpacked import lambda_runtime, run_alone, target_here

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

CURL = {"prompt": "a calico cat at sunset"}

# Vendors' libraries that a package does without: beside the function on Lambda, or of use only for
# a storage, a database or keys of the other cloud, which say so when they are chosen.
ABSENT = {
    "aws": {"boto3", "botocore", "qcloud_cos", "tencentcloud"},
    "cloudbase": {"boto3", "botocore"},
    "cloudbase-http": {"boto3", "botocore"},
}
# The only parts of fal_image that may name what is absent.
VENDORS = {
    "boto3": set[str](),
    "botocore": {"aws.credentials"},
    "qcloud_cos": {"storage.cos"},
    "tencentcloud": {"storage.cos_region", "tencent"},
}

IMPORT_ALL = """
import importlib, json
for name in json.load(sys.stdin):
    importlib.import_module(name)
homes = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
print(json.dumps([home for home in homes if "site-packages" in home]))
"""
ON_LAMBDA = """
import json, types
from functions.aws.handler import main
context = types.SimpleNamespace(
    aws_request_id="lambda-1", get_remaining_time_in_millis=lambda: 60_000
)
print(json.dumps(main(json.load(sys.stdin), context)))
"""
WITHOUT_BYTECODE = """
import json, os, types
from functions.aws.handler import main
context = types.SimpleNamespace(
    aws_request_id="lambda-1", get_remaining_time_in_millis=lambda: 60_000
)
reply = main(json.load(sys.stdin), context)
specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
ours = [spec for spec in specs if spec and spec.cached and spec.origin.startswith(os.getcwd())]
assert len(ours) > 100 and "PIL.Image" in sys.modules
compiled = [spec.name for spec in ours if not os.path.exists(spec.cached)]
print(json.dumps([reply["statusCode"], compiled]))
"""
ON_CLOUDBASE = """
import json
from index import main
event, context = json.load(sys.stdin)
print(json.dumps(main(event, context)))
"""
ON_CLOUDBASE_WITH_DETOURS = """
import json, os
from fal_image.app import Seams, build_app
from fal_image.events.cloudbase import handle
from fal_image.settings import load
event, context, detours = json.load(sys.stdin)
app = build_app(load(os.environ), seams=Seams(detours=detours))
print(json.dumps(handle(event, context, app)))
"""
PUT_ON_COS = """
import datetime, hashlib, io, json, os
from fal_image.storage.cos import CosStorage
endpoint, key = json.load(sys.stdin)
store = CosStorage(
    "pictures-1250000000", prefix="ai-images", region="ap-shanghai", endpoint=endpoint,
    credentials=lambda: os.environ, now=lambda: datetime.datetime.now(datetime.timezone.utc),
)
digest = hashlib.sha256(b"picture").hexdigest()
store.put(key, io.BytesIO(b"picture"), content_type="image/png", sha256=digest, create_only=True)
print(json.dumps(store.link(key, 60).url))
"""


@pytest.fixture(scope="module", params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("here")
    return {cloud: build(target_here(cloud), folder).tree for cloud in CLOUDS}


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lambda_runtime(tmp_path_factory.mktemp("lambda") / "runtime")


def settings(fal: Emulator, storage_url: str, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_STORAGE_URL": storage_url,
        "FAL_IMAGE_PUBLIC_URL": "https://pictures.example.com",
        "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        **environ,
    }


def modules(tree: Path) -> dict[str, Path]:
    """Every module of ours in a package, by its name."""
    found = {}
    for path in [*tree.glob("fal_image/**/*.py"), *tree.glob("functions/**/*.py")]:
        parts = path.relative_to(tree).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(name: str, path: Path) -> Iterator[str]:
    """What a module imports, wherever in it: full names of modules, or of names in modules.

    What only a type checker imports is left out.
    """
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_there(tree: Path, name: str) -> bool:
    """Whether a package holds the module, or the module that could have the name in it."""
    for candidate in (name, name.rpartition(".")[0]):
        path = tree.joinpath(*candidate.split("."))
        if candidate and (
            path.with_suffix(".py").is_file() or path.joinpath("__init__.py").is_file()
        ):
            return True
    return False


def test_every_import_of_ours_is_in_the_package_or_a_vendors(cloud: str, trees: dict[str, Path]):
    tree = trees[cloud]
    missing = set()
    for name, path in modules(tree).items():
        for wanted in imported_by(name, path):
            vendor = wanted.split(".")[0]
            if vendor in sys.stdlib_module_names or is_there(tree, wanted):
                continue
            is_vendors = name.removeprefix("fal_image.") in VENDORS.get(vendor, ())
            if not (vendor in ABSENT[cloud] and is_vendors):
                missing.add(f"{name} imports {wanted}")
    assert missing == set()


def test_every_module_of_ours_can_be_imported(cloud: str, trees: dict[str, Path], brought: Path):
    folders = [trees[cloud], *([brought] if cloud == "aws" else [])]
    absent = ABSENT[cloud] - ({"boto3", "botocore"} if cloud == "aws" else set())
    left_out = {f"fal_image.{part}" for vendor in absent for part in VENDORS[vendor]}
    names = [name for name in modules(trees[cloud]) if name not in left_out]
    assert len(names) > 100
    assert run_alone(IMPORT_ALL, *folders, given=sorted(names)) == []


@pytest.mark.parametrize("is_boto3_there", [True, False])
def test_the_lambda_package_makes_a_picture_with_and_without_lambdas_boto3(
    trees: dict[str, Path], brought: Path, is_boto3_there: bool
):
    event = function_url_event(request(body=CURL), at=NOON)
    folders = [trees["aws"], *([brought] if is_boto3_there else [])]
    with Emulator() as fal, moto_server() as moto:
        bucket = S3Rig(moto)
        environ = settings(fal, bucket.url, bucket.environ)
        reply = run_alone(ON_LAMBDA, *folders, environ=environ, given=event)
        job = json.loads(read_lambda_reply(reply).read())
        assert (reply["statusCode"], job["state"]) == (200, "done"), job
        assert bucket.fetch(job["tempFileURL"]).startswith(b"\xff\xd8\xff")


def test_a_picture_with_a_visible_label_and_a_thumbnail_has_no_module_compiled(
    trees: dict[str, Path], tmp_path: Path
):
    body = {**CURL, "transforms": {"thumbnail": {"width": 64, "height": 64}}, "aiLabel": "visible"}
    event = function_url_event(request(body=body), at=NOON)
    with Emulator() as fal:
        environ = settings(fal, (tmp_path / "pictures").as_uri(), {})
        answer = run_alone(WITHOUT_BYTECODE, trees["aws"], environ=environ, given=event)
    assert answer == [200, []]


def test_the_cloudbase_package_makes_a_picture_from_the_file_at_its_root(
    trees: dict[str, Path], tmp_path: Path
):
    given = [cloudbase_event(request(body=CURL)), cloudbase_context("scf-1")]
    with Emulator() as fal:
        environ = settings(fal, (tmp_path / "pictures").as_uri(), {})
        reply = run_alone(ON_CLOUDBASE, trees["cloudbase"], environ=environ, given=given)
    job = json.loads(read_cloudbase_reply(reply).read())
    assert (reply["statusCode"], job["state"]) == (200, "done"), job


def test_the_cloudbase_package_stores_in_cloudbase_with_the_invocations_keys(
    trees: dict[str, Path],
):
    names = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")
    with Emulator() as fal, FakeCloudbase().serving() as fake:
        keys = dict(zip(names, fake.keys, strict=True))
        context = cloudbase_context("scf-1", variables=keys)
        given = [cloudbase_event(request(body=CURL)), context, fake.detours]
        environ = settings(fal, f"cloudbase://{fake.env_id}/ai-images", {})
        tree = trees["cloudbase"]
        reply = run_alone(ON_CLOUDBASE_WITH_DETOURS, tree, environ=environ, given=given)
        job = json.loads(read_cloudbase_reply(reply).read())
        assert (reply["statusCode"], job["state"]) == (200, "done"), job
        assert job["fileID"].removeprefix(fake.start) in fake.objects


@pytest.mark.parametrize("name", ["cloudbase", "cloudbase-http"])
def test_a_cloudbase_package_stores_on_cos(name: str, trees: dict[str, Path]):
    with cos_rig() as cos:
        link = run_alone(PUT_ON_COS, trees[name], environ=cos.environ, given=[cos.endpoint, KEY])
        assert cos.fetch(link) == b"picture"
