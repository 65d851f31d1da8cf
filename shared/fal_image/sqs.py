"""The queue of jobs on AWS: messages `{"jobId": …}`, which SQS hands to the function one by one.

Importing this module imports boto3. Only requests, webhooks and sweeps send; whoever was called by
the queue does not, because Lambda stops a function that keeps calling itself through SQS (AWS
Lambda guide, recursive loop detection).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .logs import logger

MAX_MESSAGES = 10  # in one call (AWS SQS API, SendMessageBatch)
_REGION = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


class SqsQueue:
    """Safe to share between threads."""

    def __init__(self, url: str, *, region: str | None) -> None:
        """The region is the one in the queue's own address, else `region`."""
        named = _REGION.fullmatch(urlsplit(url).hostname or "")
        self._url = url
        self._client: Any = boto3.session.Session().client(
            "sqs",
            region_name=named[1] if named else region,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                connect_timeout=2,
                read_timeout=5,
            ),
        )

    def send(self, job_ids: Sequence[str]) -> list[str]:
        """Queue the jobs; those that were not taken come back. Never raises for what SQS does:
        a job that is not queued is due, and the sweep finds it."""
        refused: list[str] = []
        for start in range(0, len(job_ids), MAX_MESSAGES):
            refused += self._send_some(job_ids[start : start + MAX_MESSAGES])
        return refused

    def _send_some(self, job_ids: Sequence[str]) -> list[str]:
        entries = [
            {"Id": str(place), "MessageBody": json.dumps({"jobId": job_id})}
            for place, job_id in enumerate(job_ids)
        ]
        try:
            answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            logger.error("the queue took no jobs: %s", error)
            return list(job_ids)
        return [job_ids[int(failed["Id"])] for failed in answer.get("Failed", [])]
