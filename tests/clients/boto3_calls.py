"""What boto3 makes of a gateway as its SageMaker runtime.

Run in the environment of `datarobot-nixtla-boto3.txt`: `python boto3_calls.py URL ENDPOINT BODY [KEY]`; prints JSON.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def refusal(call):
    try:
        call()
    except ClientError as error:
        shown = {k: error.response.get(k) for k in ("OriginalStatusCode", "OriginalMessage")}
        return [error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"], shown]
    return None


def main(url, endpoint, body, key="any"):
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key="unused",
        config=Config(retries={"max_attempts": 1}),
    )
    answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
    bare = runtime.invoke_endpoint(EndpointName=endpoint, Body=body.encode())
    print(
        json.dumps(
            {
                "body": json.loads(answer["Body"].read()),
                "bare": json.loads(bare["Body"].read()),
                "type": answer["ContentType"],
                "request_id": answer["ResponseMetadata"]["RequestId"],
                "refused": refusal(lambda: runtime.invoke_endpoint(EndpointName=endpoint, Body="{}")),
                "unknown": refusal(lambda: runtime.invoke_endpoint(EndpointName="nope", Body=body)),
            }
        )
    )


main(*sys.argv[1:])
