"""Every code block of the documentation is run by a test, or looked at by one for a reason that
stands here, or says what it needs that no test has.

RUN holds, for each page, which test carries out which blocks, or compares what they print with what
came; CHECKED holds the blocks that a test only looks at. A claim must be true as far as names can
show it: the test exists, and uses a name whose definition names the page.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import pytest

from support.snippets import TESTS, Block, blocks, blocks_of, pages, reads

README = "tests/tooling/test_readme.py"
COMMANDS = "tests/tooling/test_docs_commands.py"
FRONTEND = "tests/proxy/test_frontend_docs.py"
EXTEND = "tests/entrypoints/test_extend.py"
BUDGETS = "tests/tooling/test_budgets_doc.py"
LABELS = "tests/processing/test_labels_doc.py"
AGENTS = "tests/agents/test_agents_doc.py"
OPENAI = "tests/openai_dialect/test_openai_doc.py"
TRANSFORMS = "tests/entrypoints/test_transforms_doc.py"
MODELS = "tests/tooling/test_docs_models.py"
CONTRIBUTING = "tests/tooling/test_contributing.py"
MINI = "tests/tooling/test_docs_miniprogram.py"

_README = {
    r"sh .* curl -X POST": f"{README}::test_the_curl_gets_the_answer_that_stands_below_it",
    r"json": f"{README}::test_the_curl_gets_the_answer_that_stands_below_it",
    r"sh .* bytes=": f"{README}::test_a_picture_is_uploaded_and_edited_as_told",
    r"sh .* fal-image emulator": f"{README}::test_the_commands_make_edit_estimate_and_batch",
}

# By page: what a block's title looks like, and the test that runs it.
RUN: dict[str, dict[str, str]] = {
    "README.md": _README,
    "README.zh-CN.md": dict.fromkeys(
        _README, f"{README}::test_the_chinese_page_has_every_block_of_the_english_one"
    ),
    "docs/agents.md": {
        r"sh . Over HTTP": f"{AGENTS}::test_the_command_over_http_serves_the_tools_on_its_port",
        r"json .*: deployed": f"{AGENTS}"
        "::test_the_configuration_for_a_deployed_endpoint_makes_a_picture",
        r"json .*: here": f"{AGENTS}::test_the_configuration_without_an_endpoint_makes_a_picture",
        r"json .*: http": f"{AGENTS}::test_the_configuration_for_an_address_finds_the_tools",
        r"python .*: openai": f"{AGENTS}::test_a_model_that_calls_functions_gets_its_picture",
        r"js .*: mastra": f"{AGENTS}::test_the_tool_for_mastra_makes_a_picture_or_says_why_not",
    },
    "docs/ai-label.md": {
        r"json": f"{LABELS}::test_the_bodies_make_the_pictures_that_they_ask_for",
        r"(python|text)": f"{LABELS}::test_the_lines_of_python_read_the_label",
    },
    "docs/budgets.md": {
        r"(sh|json)": f"{BUDGETS}"
        "::test_the_commands_make_a_ticket_and_a_picture_until_it_is_used_up",
        r"http": f"{BUDGETS}::test_the_headers_of_a_refusal_are_those_that_are_shown",
    },
    "docs/cli.md": {
        r"sh": "tests/cli/test_help.py::test_what_the_documentation_shows_works",
    },
    "docs/deploy.md": {
        r"sh . Before any": f"{COMMANDS}"
        "::test_the_first_steps_make_a_file_that_only_its_owner_reads",
        r"(sh|json) . .*: ask": "tests/deploy/test_deploy_answers.py"
        "::test_each_curl_gets_the_answer_that_stands_below_it",
    },
    "docs/doctor.md": {
        r"sh .* with the settings": f"{COMMANDS}::test_the_doctor_examines_as_shown",
        r"text": "tests/doctor/test_doctor_doc.py::test_the_example_is_what_the_command_prints",
    },
    "docs/extend.md": {
        r"python . Your own": f"{EXTEND}::test_the_plain_entrypoint_of_the_page_serves_both_clouds",
        r"python . Count": f"{EXTEND}::test_the_example_that_counts_refuses_who_asks_too_much",
        r"python . A row": f"{EXTEND}::test_the_example_with_a_table_has_one_row_for_each_picture",
        r"python . Withhold": f"{EXTEND}"
        "::test_the_example_with_a_check_withholds_what_the_check_refuses",
    },
    "docs/frontend.md": {
        r"sh .*\| # \.env\.local": f"{COMMANDS}::test_node_reads_the_variables_of_a_site",
        r"js .*\| // (lib|app|pages)/(?!fal-server)": f"{FRONTEND}"
        "::test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket",
        r"js .*\| // lib/fal-server": f"{FRONTEND}::test_a_server_asks_for_itself",
        r"html .*\| <!-- index": f"{FRONTEND}::test_the_page_without_a_server_shows_the_picture",
        r"html .*\| <!-- follow": f"{FRONTEND}::test_the_page_that_follows_a_job_shows_its_picture",
        r"js .*\| // events": f"{FRONTEND}::test_a_job_is_followed_to_its_end",
        r"js .*\| // stream": f"{FRONTEND}::test_the_stream_of_a_model_is_read_without_its_client",
        r"js .*\| // (cloudfunctions|miniprogram/pictures)": f"{FRONTEND}"
        "::test_the_mini_program_paints_through_its_cloud_function",
        r"js .*\| // miniprogram/proxy": f"{FRONTEND}"
        "::test_the_mini_program_asks_the_server_of_the_site",
    },
    "docs/jobs.md": {
        r"http": f"{COMMANDS}::test_the_requests_of_the_page_on_jobs_are_taken",
        r"sh": f"{COMMANDS}::test_the_batch_of_the_page_on_jobs_is_run",
    },
    "docs/miniprogram.zh-CN.md": {
        r"json . 2": f"{MINI}::test_the_page_shows_a_picture_by_its_file_id",
        r"js . 3": f"{MINI}::test_the_page_shows_a_picture_by_its_file_id",
        r"js .*/edit\.js": f"{MINI}::test_a_picture_of_the_phone_is_edited",
        r"js .*/upload\.js": f"{MINI}::test_a_picture_is_uploaded_for_the_function_to_hand_to_fal",
        r"python . 6": f"{MINI}::test_a_text_that_the_check_refuses_costs_nothing",
    },
    "docs/models.md": {
        r"sh": f"{MODELS}::test_the_curl_makes_a_picture",
        r"json . fal-ai/": f"{MODELS}::test_a_body_makes_a_picture",
    },
    "docs/openai.md": {
        r"sh .* export": f"{COMMANDS}::test_the_variables_lead_openais_client_to_us",
        r"python": f"{OPENAI}::test_a_snippet_for_python_runs",
        r"sh .* curl": f"{OPENAI}::test_a_curl_is_answered_as_the_page_says",
        r"json . Answers": f"{OPENAI}::test_a_curl_is_answered_as_the_page_says",
        r"json . Errors": f"{OPENAI}::test_the_error_on_the_page_is_the_one_that_comes",
    },
    "docs/prices.md": {
        r"(sh .* curl|json)": f"{COMMANDS}::test_the_estimate_is_the_one_that_stands_below_it",
        r"sh .* fal-image": f"{COMMANDS}::test_the_command_estimates_as_the_endpoint_does",
    },
    "docs/proxy.md": {
        r"sh .* curl": f"{COMMANDS}::test_a_proxied_submit_is_answered_as_fal_answers",
        r"sh .* # fal-client": f"{COMMANDS}::test_the_variables_lead_fal_client_to_us",
        r"js . Two forms": f"{COMMANDS}::test_the_ai_sdk_is_led_to_us",
        r"json": f"{COMMANDS}::test_a_kept_result_has_the_members_that_are_shown",
    },
    "docs/secrets.md": {
        r"sh . Make them": f"{COMMANDS}::test_keys_and_secrets_are_made",
        r"sh . On your own": f"{COMMANDS}::test_a_key_is_kept_in_a_file_of_its_own",
    },
    "docs/transforms.md": {
        r'json .*"transforms"': f"{TRANSFORMS}::test_each_request_makes_what_it_asks_for",
        r'json .*"error"': f"{TRANSFORMS}::test_letters_that_the_font_lacks_are_named_as_shown",
        r'json .*"code"': f"{TRANSFORMS}::test_what_could_not_be_done_is_told_as_shown",
    },
    "CONTRIBUTING.md": {
        r"json . Add a model": f"{CONTRIBUTING}::test_a_model_that_is_added_is_served_and_priced",
    },
}


class Checked(NamedTuple):
    test: str
    why_not_run: str


_FIRST_SCREEN = {
    r"sh .* scripts/dev": Checked(
        f"{README}::test_the_commands_of_the_first_screen_are_there",
        "scripts/test would run itself; tests/tooling/test_setup.py runs scripts/dev on a small "
        "project, test_runner.py the program that it starts",
    ),
}

# By page: what a block's title looks like, the test that looks at it, and why none runs it.
CHECKED: dict[str, dict[str, Checked]] = {
    "README.md": _FIRST_SCREEN,
    "README.zh-CN.md": _FIRST_SCREEN,
    "docs/frontend.md": {
        r"js .*\| // vite": Checked(
            f"{FRONTEND}::test_vite_shows_the_key", "Vite is not installed; Node reads its settings"
        ),
    },
    "docs/miniprogram.zh-CN.md": {
        r"json . 3": Checked(
            f"{MINI}::test_the_page_shows_a_picture_by_its_file_id",
            "WeChat reads it; here it says which page is opened",
        ),
        r"xml . 3": Checked(
            f"{MINI}::test_what_the_page_binds_is_there",
            "only WeChat renders WXML; the names that it binds are those of the page",
        ),
    },
    "CONTRIBUTING.md": {
        r"text . The house": Checked(
            f"{CONTRIBUTING}::test_the_house_is_drawn_in_the_order_of_the_layers", "a drawing"
        ),
        r"sh . Add a model": Checked(
            f"{CONTRIBUTING}::test_its_section_is_written_by_the_command",
            "its first line is run; of scripts/test, which would run itself, only the files are "
            "looked for",
        ),
        r"sh . Add a (storage|cloud)": Checked(
            f"{CONTRIBUTING}::test_the_suites_that_are_named_can_be_collected",
            "whole suites, which this run has anyway; they are collected",
        ),
    },
}
LOOKED_AT = {page: {look: one.test for look, one in of.items()} for page, of in CHECKED.items()}
CLAIMS = {page: RUN.get(page, {}) | LOOKED_AT.get(page, {}) for page in RUN | CHECKED}


def claim_of(block: Block) -> str | None:
    claims = CLAIMS.get(block.page, {})
    found = [test for look, test in claims.items() if re.match(look, block.title)]
    assert len(found) < 2, f"{block.page}:{block.line} is claimed twice"
    return found[0] if found else None


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_or_looked_at_or_says_what_it_needs(page: str):
    unclaimed = [
        f"{page}:{block.line} ({block.title})"
        for block in blocks(page)
        if claim_of(block) is None and not block.marked
    ]
    assert unclaimed == [], "run it by a test that RUN names, or say that it needs a live account"


@pytest.mark.parametrize("page", CHECKED)
def test_no_block_is_both_run_and_only_looked_at(page: str):
    assert not set(RUN.get(page, {})) & set(CHECKED[page])
    assert all(one.why_not_run for one in CHECKED[page].values())


@pytest.mark.parametrize("page", CLAIMS)
def test_every_claim_is_of_a_block_that_is_there(page: str):
    titles = [block.title for block in blocks(page)]
    assert [look for look in CLAIMS[page] if not any(re.match(look, one) for one in titles)] == []


@pytest.mark.parametrize("page", CLAIMS)
def test_every_test_that_is_named_looks_at_the_page(page: str):
    for test in CLAIMS[page].values():
        path, _, name = test.partition("::")
        tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert name in [node.name for node in found], f"{path} has no {name}"
        assert reads(test, page), f"{test} has nothing to do with {page}"


def test_a_claim_for_another_page_is_seen_through():
    assert not reads(f"{MODELS}::test_the_curl_makes_a_picture", "docs/prices.md")
    assert not reads(f"{COMMANDS}::test_keys_and_secrets_are_made", "docs/frontend.md")


def test_only_what_stands_before_a_block_marks_it():
    text = (
        "# A\n\nIntroduction.\n\n```sh\none\n```\n\nNeeds a live account:\n\n```sh\ntwo\n```\n\n"
        "Else.\n\n```sh\nthree\n```\n\n## B\n\nNeeds Docker, for all of this\nsection.\n\n"
        "### C\n\nWords.\n\n```sh\nfour\n```\n\n## D\n\n需要真实账号：\n\n```sh\nfive\n```\n\n"
        "Not so.\n\n```sh\nsix\n```\n"
    )
    shown = {block.text.strip(): block.marked for block in blocks_of("x.md", text)}
    assert shown == {
        "one": False,
        "two": True,
        "three": False,
        "four": True,
        "five": True,
        "six": False,
    }
