"""The driver of S3: s3fs, but whole objects by pyarrow's client, outside Python's lock and with a third of the CPU."""

import os
import re
from contextlib import suppress
from typing import Any

from fsspec.asyn import sync
from pyarrow import fs
from s3fs import S3FileSystem

from pneumospark.io.walks import Complete

AWS = r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com(\.cn)?"
"""Where pyarrow's client asks by itself, in the region that it was told."""


class S3(Complete, S3FileSystem):  # type: ignore[misc]
    """s3fs; what pyarrow's client cannot read (a proxy, a certificate of the house), s3fs reads, or says why not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clients: dict[str, fs.S3FileSystem | None] = {}  # by bucket; None where s3fs alone can read

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes of an object, bucket/key, or some of them; raises what s3fs raises."""
        bucket = path.partition("/")[0]
        if start is None and end is None and self.clients.get(bucket, True):
            with suppress(OSError, ValueError):  # ValueError: of names, such as those with an empty part
                client = self.clients[bucket] = self.clients.get(bucket) or self._client(bucket)
                with client.open_input_file(path) as file:
                    return bytes(file.readall())
        content: bytes = sync(self.loop, self._cat_file, path, start=start, end=end, **kwargs)
        if start is None and end is None:
            self.clients[bucket] = None  # s3fs has read what the client could not: no more asking in vain
        return content

    def _client(self, bucket: str) -> fs.S3FileSystem:
        self.connect()
        found = self.s3.meta  # where s3fs itself asks, by its settings, the environment or ~/.aws/config
        region = self.client_kwargs.get("region_name") or os.environ.get("AWS_REGION")
        is_aws = re.fullmatch(AWS, found.endpoint_url)
        if not region:  # that of the bucket, where s3fs is led by AWS itself; other stores take what s3fs says
            region = fs.resolve_s3_region(bucket) if is_aws else found.region_name
        endpoint = None if is_aws else found.endpoint_url
        account = {"access_key": self.key, "secret_key": self.secret, "session_token": self.token}
        return fs.S3FileSystem(**account, endpoint_override=endpoint, region=region)
