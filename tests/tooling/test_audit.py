"""What the auditors say, and what scripts/audit makes of it."""

import json
from typing import Any

import pytest
from scripts.audit import EXIT_CLEAN, EXIT_UNASKED, EXIT_VULNERABLE, Verdict, exit_code
from scripts.audit import npm_verdict as npm
from scripts.audit import python_verdict as python

KNOWN = {"name": "pillow", "version": "13.0.0", "vulns": []}
SKIPPED = {"name": "aiofiles", "skip_reason": "Dependency not found on PyPI"}
HOLED = {
    "name": "requests",
    "version": "2.0.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]},
        {"id": "GHSA-2", "fix_versions": []},
    ],
}


def pip_audit(*packages: dict[str, Any]) -> Verdict:
    return python(json.dumps({"dependencies": packages, "fixes": []}))


def npm_audit(**vulnerable: Any) -> Verdict:
    metadata = {"vulnerabilities": {"total": len(vulnerable)}, "dependencies": {"total": 30}}
    return npm(json.dumps({"vulnerabilities": vulnerable, "metadata": metadata}))


def test_packages_that_were_asked_about_are_clean():
    assert pip_audit(KNOWN) == Verdict()
    assert npm_audit() == Verdict()
    assert exit_code([pip_audit(KNOWN), npm_audit()]) == EXIT_CLEAN


def test_a_known_vulnerability_is_named_with_its_way_out():
    verdict = pip_audit(KNOWN, HOLED)
    assert verdict.found == (
        "requests 2.0.0: PYSEC-1, mended in 2.1, 3.0",
        "requests 2.0.0: GHSA-2, mended in no version",
    )
    braces = npm_audit(braces={"severity": "high", "range": "<3.0.3"})
    assert braces.found == ("braces <3.0.3: high",)
    assert exit_code([pip_audit(KNOWN), braces]) == EXIT_VULNERABLE


def test_a_package_that_the_index_does_not_know_was_not_asked_about():
    verdict = pip_audit(KNOWN, SKIPPED)
    assert verdict.unasked == "the index tells nothing of 1 packages (aiofiles)"
    assert exit_code([verdict, npm_audit()]) == EXIT_UNASKED


@pytest.mark.parametrize("output", ["", "Traceback", "[]", "{}", '{"dependencies": []}'])
def test_an_auditor_without_an_answer_is_no_good_news(output: str):
    assert python(output).unasked
    assert npm(output).unasked


def test_npms_reason_is_told():
    assert npm('{"message": "405 Method Not Allowed"}').unasked == "405 Method Not Allowed"


def test_a_vulnerability_counts_more_than_silence():
    assert exit_code([pip_audit(HOLED, SKIPPED), npm("")]) == EXIT_VULNERABLE
