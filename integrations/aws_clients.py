"""Clients of services that speak as AWS does, for use by many threads."""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from integrations.vendor_settings import AwsSettings


def aws_client(service: str, settings: AwsSettings, *, read_timeout_s: float, tries: int = 2) -> Any:
    """Return the driver's client. It tries a few times; whoever calls tries again after that, and waits in between.

    The driver's older way of retrying, its default, takes a TLS connection that the server closes for a wrong one.
    """
    secret = settings.secret_key
    return boto3.client(
        service,
        endpoint_url=settings.endpoint_url or None,
        region_name=settings.region,
        aws_access_key_id=settings.access_key.get_secret_value() if settings.access_key is not None else None,
        aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        verify=str(settings.ca) if settings.ca is not None else None,
        config=Config(
            signature_version="s3v4" if service == "s3" else "v4",
            s3={"addressing_style": "path"},
            connect_timeout=3,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": tries},
        ),
    )


def code_of(error: ClientError) -> str:
    """Return the code of a refusal, such as `AccessDenied`; at most 80 characters."""
    return str(error.response.get("Error", {}).get("Code", "no code"))[:80]
