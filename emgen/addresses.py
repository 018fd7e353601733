"""Addresses (URLs) in settings, files and messages: which hold a secret, and how they are written without it.

https://user:password@host/volume.zarr?X-Amz-Signature=1f0c  ->  https://***@host/volume.zarr?X-Amz-Signature=***
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# who asks, before the host; a password may hold what an address must not, such as a slash
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s:@]*:(?!\d+(?:[/?#\s]|$))[^\s]*@)")
# every value behind `?`, `&` or `#`: a signature has as many names as there are clouds
_VALUE = re.compile(r"(://[^\s?#]*)([?#][^\s'\"<>)\]},]+)")
_ASSIGNED = re.compile(r"(?<==)[^&;#]+")
HIDDEN = "***"

HOW_TO_GIVE = (
    "Everything in the settings is written into results, logs and reports. Give it to the program that reads instead: "
    "S3 takes AWS_PROFILE or ~/.aws/credentials; HTTP takes headers from ~/.config/fsspec/conf.json, such as "
    '{"https": {"client_kwargs": {"headers": {"Authorization": "Bearer ..."}}}}'
)


def redacted(text: str) -> str:
    """A text with *** for names, passwords, and values behind `?` or `#` of every address in it.

    >>> redacted("s3://key:secret@bucket/a.zarr")
    's3://***@bucket/a.zarr'
    >>> redacted("see https://host:8080/a@b.zarr?sig=xyz&v=2.")
    'see https://host:8080/a@b.zarr?sig=***&v=***'
    """
    if "://" not in text:
        return text
    text = _USER.sub(f"{HIDDEN}@", text)
    return _VALUE.sub(lambda found: found[1] + _without_values(found[2]), text)


def _without_values(query: str) -> str:
    """A query whose names stay, or only its mark where it has none."""
    return _ASSIGNED.sub(HIDDEN, query) if "=" in query else f"{query[0]}{HIDDEN}"


def holds_secret(text: str) -> bool:
    """Whether an address in a text has a part in which passwords, keys and signatures stand.

    >>> [holds_secret(url) for url in ("s3://bucket/a.zarr", "https://host/a?token=b")]
    [False, True]
    """
    return redacted(text) != text


def secrets(tree: Any, key: str = "") -> Iterator[str]:
    """The keys, such as `input.volume`, of texts in a tree of settings that hold a secret."""
    if isinstance(tree, str) and holds_secret(tree):
        yield key
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from secrets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list | tuple):
        for place, value in enumerate(tree):
            yield from secrets(value, f"{key}[{place}]")
