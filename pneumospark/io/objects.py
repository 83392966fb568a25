"""Whole objects of S3 by pyarrow's client, which reads outside Python's lock and with a third of the CPU of s3fs.

s3fs stays the driver. What this client cannot read is None here, and s3fs, asked next, reads it or says why not.
"""

import os
from collections.abc import Mapping
from typing import Any

from pyarrow import fs

_CLIENTS: dict[tuple[int, str, str], fs.S3FileSystem | None] = {}
"""By process (a fork must not share sockets), bucket and options; None where s3fs reads what this client cannot."""


def read_object(name: str, options: Mapping[str, Any]) -> bytes | None:
    """All bytes of `name`, bucket/key, with the account of s3fs's `options`; None where they cannot be had."""
    key = _key(name, options)
    try:
        if key not in _CLIENTS:
            _CLIENTS[key] = _client(name.partition("/")[0], options)
        if not (client := _CLIENTS[key]):
            return None
        with client.open_input_file(name) as file:
            content: bytes = file.readall()
            return content
    except (OSError, ValueError):  # ValueError: of names, such as those with an empty part
        return None


def leave_to_s3fs(name: str, options: Mapping[str, Any]) -> None:
    """Ask this client no more for objects of this bucket: s3fs has read one that it could not."""
    _CLIENTS[_key(name, options)] = None


def _key(name: str, options: Mapping[str, Any]) -> tuple[int, str, str]:
    return os.getpid(), name.partition("/")[0], repr(sorted(options.items()))


def _client(bucket: str, options: Mapping[str, Any]) -> fs.S3FileSystem:
    in_environment = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    endpoint = options.get("endpoint_url") or next(filter(None, in_environment), None)
    region = options.get("client_kwargs", {}).get("region_name") or os.environ.get("AWS_REGION")
    if not (region or endpoint):
        region = fs.resolve_s3_region(bucket)  # s3fs is led there by AWS itself
    account = {"access_key": options.get("key"), "secret_key": options.get("secret")}
    return fs.S3FileSystem(**account, session_token=options.get("token"), endpoint_override=endpoint, region=region)
