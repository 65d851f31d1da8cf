"""The recipe in Python as anybody would write it first: generate, fetch, put, sign a link."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime, timezone
from typing import Any

import boto3
import fal_client
import requests

bucket = os.environ["BUCKET"]
s3 = boto3.client("s3")


def main(event: dict[str, Any], context: object) -> dict[str, Any]:
    try:
        body = json.loads(event["body"])
    except ValueError as error:
        return answer(400, {"error": "invalid_json", "message": str(error)})
    if not isinstance(body.get("prompt"), str):
        return answer(400, {"error": "missing_prompt"})
    model = body.pop("model", "fal-ai/flux/schnell")
    try:
        result = fal_client.subscribe(model, {"image_size": "landscape_16_9", **body})
    except Exception as error:
        return answer(502, {"error": "fal_failed", "message": str(error)})
    if not result.get("images"):
        return answer(502, {"error": "no_image_returned"})
    links = [keep(image) for image in result["images"]]
    return answer(200, {**links[0], "images": links, "model": model, "prompt": body["prompt"]})


def keep(image: dict[str, Any]) -> dict[str, str]:
    picture = requests.get(image["url"], timeout=60)
    picture.raise_for_status()
    day = datetime.now(timezone.utc).date().isoformat()
    key = f"ai-images/{day}/{uuid.uuid4()}.{image['url'].rpartition('.')[2]}"
    s3.put_object(Bucket=bucket, Key=key, Body=picture.content, ContentType=image["content_type"])
    link = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=3600
    )
    return {"fileID": f"s3://{bucket}/{key}", "tempFileURL": link}


def answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(body),
    }
