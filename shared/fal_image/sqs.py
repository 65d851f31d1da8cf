"""The queue of jobs on AWS: messages `{"jobId": …}`, which SQS hands to the function one by one.

Only requests, webhooks and sweeps send; whoever was called by the queue does not, because Lambda
stops a function that keeps calling itself through SQS (AWS Lambda guide, recursive loop detection).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from .aws import AwsError, AwsService, Protocol
from .logs import logger

PROTOCOL = Protocol("sqs", "AmazonSQS", "1.0")
READ_TIMEOUT_S = 3.0  # three silent attempts, inside the 15 s that fal waits for an answer
MAX_MESSAGES = 10  # in one call (AWS SQS API, SendMessageBatch)
_REGION = re.compile(r"sqs(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.(?:com|com\.cn|eu)|api\.aws)")


class SqsQueue:
    """Safe to share between threads."""

    def __init__(self, url: str, *, region: str, endpoint_url: str | None) -> None:
        """The region is the one in the queue's own address, else `region`."""
        named = _REGION.fullmatch(urlsplit(url).hostname or "")
        self._url = url
        self._service = AwsService(
            PROTOCOL,
            region=named[1] if named else region,
            endpoint_url=endpoint_url,
            read_timeout_s=READ_TIMEOUT_S,
        )

    def send(self, job_ids: Sequence[str]) -> list[str]:
        """Queue the jobs; those that were not taken come back. Never raises for what SQS does:
        a job that is not queued is due, and the sweep finds it. After a call that failed none is
        made: whoever waits has other things to do. A job whose message was taken though its answer
        was lost may be queued twice, and its second message finds nothing to do."""
        refused: list[str] = []
        for start in range(0, len(job_ids), MAX_MESSAGES):
            try:
                refused += self._send_some(job_ids[start : start + MAX_MESSAGES])
            except AwsError as error:
                logger.error("the queue took no jobs: %s", error)
                return [*refused, *job_ids[start:]]
        return refused

    def _send_some(self, job_ids: Sequence[str]) -> list[str]:
        entries = [
            {"Id": str(place), "MessageBody": json.dumps({"jobId": job_id})}
            for place, job_id in enumerate(job_ids)
        ]
        request = {"QueueUrl": self._url, "Entries": entries}
        answer = self._service.call("SendMessageBatch", request)
        return [job_ids[int(failed["Id"])] for failed in answer.get("Failed", [])]
