"""What `--help` teaches besides options: first steps, examples, the environment, exit codes.

Each example is run by a test, where ids and prompts of these names exist. Refuses to know what the
commands do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .output import EXIT_CODES

A_JOB = "01m7z8twx4w4rchddrd0pg6y5d"
"""The job of the examples."""

FIRST_STEPS = (
    "fal-image emulator &",
    "export FAL_KEY=any:key FAL_IMAGE_EMULATOR_URL=http://127.0.0.1:9001",
    'fal-image generate "a calico cat" -o cat.png',
)

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "generate": (
        'fal-image generate "a calico cat" -o cat.png',
        'fal-image generate "a calico cat" --size 512x512 --seed 7 --dry-run',
        'fal-image generate "at night" --image cat.png --model fal-ai/flux-pro/kontext',
        'fal-image generate "a cat" -n 2 --download "out/{index}.{ext}"',
        'fal-image generate "a cat" --format webp --thumbnail 256x256 -o cat.webp',
        'fal-image generate "a cat" --seed 7 --reuse',
        "echo a calico cat | fal-image generate - --json",
        'fal-image generate "a cat" --async',
    ),
    "estimate": ('fal-image estimate "a calico cat" --model fal-ai/flux/dev -n 4',),
    "batch": (
        "fal-image batch prompts.jsonl --out results.jsonl",
        "fal-image batch prompts.jsonl --out results.jsonl --dry-run",
        "cat prompts.jsonl | fal-image batch - --out others.jsonl --size square",
    ),
    "job": (
        f"fal-image job {A_JOB}",
        f'fal-image job {A_JOB} --wait --download "{{job}}.{{ext}}"',
        f"fal-image job {A_JOB} --cancel",
    ),
    "file": (
        f"fal-image file {A_JOB}-0",
        f"fal-image file {A_JOB}-0 --link",
    ),
    "regenerate": (
        f"fal-image regenerate {A_JOB}-0 --dry-run",
        f"fal-image regenerate {A_JOB}-0 --json",
    ),
    "config": ("fal-image config", "fal-image config --json"),
    "doctor": ("fal-image doctor", "fal-image doctor --json"),
    "new": ("fal-image keys new web",),
    "webhook-secret": ("fal-image webhook-secret",),
    "serve": ("fal-image serve --port 9000",),
    "emulator": ("fal-image emulator --port 9001",),
    "mcp": ("fal-image mcp", "fal-image mcp --http --port 9002"),
}

ENVIRONMENT: Mapping[str, str] = {
    "FAL_KEY": "fal's key, from fal.ai/dashboard/keys",
    "FAL_IMAGE_STORAGE_URL": "where pictures are kept; without it ./.fal-image",
    "FAL_IMAGE_DATABASE_URL": "where jobs are kept; without it some commands use ./.fal-image",
    "FAL_IMAGE_URL": "an endpoint that makes the pictures instead of this machine",
    "FAL_IMAGE_TOKEN": "an API key of that endpoint",
    "FAL_IMAGE_EMULATOR_URL": "an emulated fal, for free",
}


def first_steps() -> str:
    """What stands below the list of commands."""
    return "\n\n".join(
        (
            _block("First steps, without a key and without money:", FIRST_STEPS),
            "With a key of fal's, and without FAL_IMAGE_EMULATOR_URL, fal paints and is paid.",
            _table("Environment; `fal-image config` shows all of it:", ENVIRONMENT),
            _table("Exit codes:", {str(code): text for code, text in EXIT_CODES.items()}),
        )
    )


def examples_of(command: str) -> str:
    """What stands below the options of a command."""
    return _block("Examples:", EXAMPLES[command])


def _block(title: str, lines: Iterable[str]) -> str:
    return "\n".join([title, "", *(f"  {line}" for line in lines)])


def _table(title: str, rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    return _block(title, (f"{name:{width}}{text}" for name, text in rows.items()))
