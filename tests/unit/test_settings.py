import itertools

import pytest

from fal_image.settings import Settings, load

SHA = "ab" * 32


def problems_of(**environ: str) -> tuple[str, ...]:
    return load(environ).problems


def test_an_empty_environment_has_the_documented_defaults_and_no_problem():
    assert load({}) == Settings()


def test_every_setting_is_read():
    settings = load(
        {
            "FAL_KEY": "id:secret",
            "FAL_IMAGE_STORAGE_URL": "s3://bucket/pictures",
            "FAL_IMAGE_DATABASE_URL": "dynamodb://jobs",
            "FAL_IMAGE_PUBLIC_URL": "https://example.com/gen/",
            "FAL_IMAGE_SECRET": "a" * 32 + "," + "b" * 32,
            "FAL_IMAGE_API_KEYS": f"web={SHA}, web={SHA.upper()}",
            "FAL_IMAGE_ALLOW_ANONYMOUS": "1",
            "FAL_IMAGE_MODELS": "fal-ai/flux/*",
            "FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux/dev",
            "FAL_IMAGE_MODEL_ALIASES": "fast=fal-ai/flux/schnell",
            "FAL_IMAGE_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "FAL_IMAGE_LINK_TTL_S": "60",
            "FAL_IMAGE_LINK_BASE_URL": "https://cdn.example.com/",
            "FAL_IMAGE_MAX_IMAGE_BYTES": "1000",
            "FAL_IMAGE_MAX_WAIT_S": "20",
            "FAL_IMAGE_FETCH_HOSTS": "cdn.example.com,*.example.org",
            "FAL_IMAGE_DAILY_BUDGET_USD": "0.50",
            "FAL_IMAGE_WEBHOOK_USER_ID": "github|12345",
            "FAL_IMAGE_WEBHOOK_HOSTS": "me.example.com,*.example.org",
            "FAL_IMAGE_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/jobs",
            "FAL_IMAGE_JOB_RETENTION_DAYS": "90",
            "FAL_IMAGE_BASE_PATH": "/prod/",
            "FAL_IMAGE_LOG_LEVEL": "debug",
            "FAL_IMAGE_EMULATOR_URL": "http://127.0.0.1:9001/",
        }
    )
    assert settings == Settings(
        fal_key="id:secret",
        storage_url="s3://bucket/pictures",
        database_url="dynamodb://jobs",
        public_url="https://example.com/gen",
        secrets=("a" * 32, "b" * 32),
        api_keys=(("web", SHA), ("web", SHA)),
        allow_anonymous=True,
        models=("fal-ai/flux/*",),
        default_model="fal-ai/flux/dev",
        model_aliases=(("fast", "fal-ai/flux/schnell"),),
        cors_origins=("https://a.example", "http://localhost:3000"),
        link_ttl_s=60,
        link_base_url="https://cdn.example.com",
        max_image_bytes=1000,
        max_wait_s=20,
        fetch_hosts=("cdn.example.com", "*.example.org"),
        daily_budget_usd_micro=500_000,
        webhook_user_id="github|12345",
        webhook_hosts=("me.example.com", "*.example.org"),
        queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/jobs",
        job_retention_days=90,
        base_path="/prod",
        log_level="DEBUG",
        emulator_url="http://127.0.0.1:9001",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAL_KEY", "no-colon"),
        ("FAL_KEY_SSM_PARAM", "canary0id:canary0secret"),
        ("FAL_KEY_SSM_PARAM", "/fal/key:3"),
        ("FAL_KEY_SSM_PARAM", "/fal//key"),
        ("FAL_KEY_SSM_PARAM", "/fal key"),
        ("FAL_IMAGE_PUBLIC_URL", "http://example.com"),
        ("FAL_IMAGE_PUBLIC_URL", "https://user@example.com"),
        ("FAL_IMAGE_PUBLIC_URL", "https://[::1"),
        ("FAL_IMAGE_SECRET", "short"),
        ("FAL_IMAGE_API_KEYS", "web=plain-key"),
        ("FAL_IMAGE_API_KEYS", SHA),
        ("FAL_IMAGE_API_KEYS", f"wx:somebody={SHA}"),
        ("FAL_IMAGE_API_KEYS", f"anonymous={SHA}"),
        ("FAL_IMAGE_ALLOW_ANONYMOUS", "yes"),
        ("FAL_IMAGE_MODELS", "fal-ai/flux?"),
        ("FAL_IMAGE_DEFAULT_MODEL", "schnell"),
        ("FAL_IMAGE_DEFAULT_MODEL", "fal-ai/../x"),
        ("FAL_IMAGE_MODEL_ALIASES", "fast"),
        ("FAL_IMAGE_CORS_ORIGINS", "*"),
        ("FAL_IMAGE_CORS_ORIGINS", "Null"),
        ("FAL_IMAGE_CORS_ORIGINS", "https://example.com/page"),
        ("FAL_IMAGE_LINK_TTL_S", "3601"),
        ("FAL_IMAGE_LINK_TTL_S", "1e3"),
        ("FAL_IMAGE_LINK_BASE_URL", "ftp://example.com"),
        ("FAL_IMAGE_MAX_IMAGE_BYTES", "-1"),
        ("FAL_IMAGE_MAX_WAIT_S", "0"),
        ("FAL_IMAGE_FETCH_HOSTS", "https://example.com"),
        ("FAL_IMAGE_FETCH_HOSTS", "*"),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "-1"),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "$5"),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "1e3"),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "5."),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "0,50"),
        ("FAL_IMAGE_DAILY_BUDGET_USD", "0.0000001"),
        ("FAL_IMAGE_WEBHOOK_USER_ID", "two words"),
        ("FAL_IMAGE_WEBHOOK_HOSTS", "*"),
        ("FAL_IMAGE_WEBHOOK_HOSTS", "https://me.example.com"),
        ("FAL_IMAGE_WEBHOOK_HOSTS", "127.0.0.1"),
        ("FAL_IMAGE_QUEUE_URL", "http://sqs.us-east-1.amazonaws.com/123456789012/jobs"),
        ("FAL_IMAGE_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/jobs.fifo"),
        ("FAL_IMAGE_QUEUE_URL", "arn:aws:sqs:us-east-1:123456789012:jobs"),
        ("FAL_IMAGE_JOB_RETENTION_DAYS", "0"),
        ("FAL_IMAGE_JOB_RETENTION_DAYS", "3651"),
        ("FAL_IMAGE_BASE_PATH", "prod"),
        ("FAL_IMAGE_LOG_LEVEL", "LOUD"),
        ("FAL_IMAGE_EMULATOR_URL", "http://example.com:9001"),
        ("FAL_IMAGE_EMULATOR_URL", "https://127.0.0.1:9001"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_problem_that_names_its_setting(name: str, value: str):
    (problem,) = problems_of(**{name: value})
    assert problem.startswith(f"{name}: ")


def test_an_unknown_setting_of_ours_is_a_problem():
    assert problems_of(FAL_IMAGE_STORAGE="s3://x", FAL_IMAGE_URL="https://x") == (
        "FAL_IMAGE_STORAGE: there is no such setting; see docs/settings.md",
    )


def test_a_problem_never_repeats_the_value():
    (problem,) = problems_of(FAL_IMAGE_SECRET="canary-too-short")
    assert "canary" not in problem


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("5", 5_000_000),
        ("0.50", 500_000),
        ("0.000001", 1),
        ("0", 0),
        ("0.29", 290_000),
        ("999999.999999", 999_999_999_999),
    ],
)
def test_a_budget_is_exact_to_the_micro_dollar(text: str, micro: int):
    settings = load({"FAL_IMAGE_DAILY_BUDGET_USD": text})
    assert settings == Settings(daily_budget_usd_micro=micro)


def test_blank_means_unset():
    assert load({"FAL_IMAGE_LINK_TTL_S": "  ", "FAL_KEY": ""}) == Settings()


def test_the_two_part_key_is_joined():
    assert load({"FAL_KEY_ID": "a", "FAL_KEY_SECRET": "b"}).fal_key == "a:b"


WAYS: list[dict[str, str]] = [
    {"FAL_KEY": "canary:canary"},
    {"FAL_KEY_ID": "canary", "FAL_KEY_SECRET": "canary"},
    {"FAL_KEY_FILE": "/run/secrets/canary"},
    {"FAL_KEY_SSM_PARAM": "/canary/fal-key"},
]


@pytest.mark.parametrize("ways", list(itertools.combinations(WAYS, 2)))
def test_fals_key_in_two_ways_is_a_problem_and_neither_is_used(ways: tuple[dict[str, str], ...]):
    settings = load(ways[0] | ways[1])
    (problem,) = settings.problems
    assert problem.startswith(f"{next(iter(ways[1]))}: {next(iter(ways[0]))} is set too")
    assert "canary" not in problem
    assert settings == Settings(problems=(problem,))


@pytest.mark.parametrize(
    ("half", "missing"),
    [("FAL_KEY_ID", "FAL_KEY_SECRET"), ("FAL_KEY_SECRET", "FAL_KEY_ID")],
)
def test_half_a_key_is_a_problem_that_names_the_other_half(half: str, missing: str):
    (problem,) = problems_of(**{half: "canary"})
    assert problem.startswith(f"{missing}: must be set")


def test_where_fals_key_is_kept_is_only_named_here():
    assert load({"FAL_KEY_FILE": "/no/such/file"}) == Settings(fal_key_file="/no/such/file")
    assert load({"FAL_KEY_SSM_PARAM": "/a/b"}) == Settings(fal_key_ssm_param="/a/b")


def test_a_parameter_may_be_named_by_its_arn():
    arn = "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/prod/fal.key_1"
    assert load({"FAL_KEY_SSM_PARAM": arn}) == Settings(fal_key_ssm_param=arn)


def test_secrets_are_not_in_the_repr():
    settings = load(
        {
            "FAL_KEY": "canary:canary",
            "FAL_IMAGE_SECRET": "canary" * 6,
            "FAL_IMAGE_API_KEYS": f"web={SHA}",
        }
    )
    assert "canary" not in repr(settings)
    assert SHA not in repr(settings)
