"""Volumes behind an address: passing faults are tried again, the others said, and no answer taken for what it is not."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import aiohttp
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError, NoCredentialsError
from fsspec.implementations.http import HTTPFileSystem
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import FsspecStore

from emgen.errors import EmgenError
from emgen.volumes.stores import METADATA, RIGHTS, CheckedStore, Missing

TRIES = 6
NAME_TRIES = 3  # where no server of a name is known: rarely more than a slip of the pen
FIRST_WAIT = 0.5  # seconds before the second try; doubled before each further one
LONGEST_WAIT = 30.0  # seconds that a server may ask for
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)  # seconds without a byte
PASSING = frozenset(
    (408, 425, 429, 500, 502, 503, 504)
)  # of HTTP: busy, restarting, too many at once
PASSING_ERRNO = frozenset((errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET))
Kind = Literal["passing", "name", "rights", "lasting"]
T = TypeVar("T")


def remote_store(where: str, missing: Missing) -> RemoteStore:
    """The store behind an address, to read from.

    Args:
        where: http://, https://, s3:// or another address that fsspec knows.
        missing: what a chunk means that is not there.

    Raises:
        EmgenError: the kind of address is not known.
    """
    return RemoteStore(_opened(where), missing, where)


def _opened(where: str, **options: Any) -> Store:
    if where.startswith(("http://", "https://")):
        return FsspecStore(WholeAnswers(asynchronous=True), read_only=True, path=where.rstrip("/"))
    if where.startswith("s3://"):
        # several requests for one object would be joined without a look at their lengths
        options["max_concurrency"] = 1
    try:
        store = FsspecStore.from_url(where, storage_options=options, read_only=True)
    except (ValueError, ImportError) as error:
        raise EmgenError(
            f"{where}: emgen reads addresses of http, https and s3 ({' '.join(str(error).split())[:200]})"
        ) from None
    if where.startswith("s3://"):
        store.fs.retries = 1  # `RemoteStore` tries again, and its tries would be multiplied
    return store


class WholeAnswers(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """HTTP, in which a part of a file is that part or an error."""

    async def set_session(self) -> aiohttp.ClientSession:
        """The connections, which are closed when the program ends; aiohttp complains of those that are not."""
        fresh = self._session is None
        session: aiohttp.ClientSession = await super().set_session()
        if fresh:
            weakref.finalize(self, self.close_session, None, session)
        return session

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **more: Any
    ) -> bytes:
        # what is packed on the way has other ranges
        headers = {**self.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if start is not None:
            last = "" if end is None else str(end - 1)
            headers["Range"] = f"bytes={start}" if start < 0 else f"bytes={start}-{last}"
        session = await self.set_session()
        options = {**self.kwargs, **more, "headers": headers, "timeout": TIMEOUT}
        async with session.get(self.encode_url(url), **options) as answer:
            self._raise_not_found_for_status(answer, url)
            body = await answer.read()
            if start is None:
                return body
            if answer.status == 200:  # servers that know no ranges send the whole file
                return body[start:end]
            _refuse_other_range(answer.headers.get("Content-Range", ""), start, end, len(body))
            return body


class OtherRange(OSError):
    """An answer that is not the part that was asked for."""


def _refuse_other_range(stated: str, start: int, end: int | None, length: int) -> None:
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", stated)
    asked = f"{start} to {'the end' if end is None else end}"
    if found is None:
        raise OtherRange(f"asked for bytes {asked}, the server does not say which it sent")
    first, last, total = (int(number) for number in found.groups())
    stop = total if end is None else min(end, total)
    if (first, last + 1, length) != (
        max(0, total + start) if start < 0 else start,
        stop,
        last + 1 - first,
    ):
        raise OtherRange(
            f"asked for bytes {asked}, got {length} bytes that are said to be {stated}"
        )


class Denied(EmgenError):
    """What may not be read, or is not there in a store that does not say which of the two."""


@dataclass(frozen=True)
class Fault:
    """Why a request failed: its kind, in words, and seconds that the server asks to wait."""

    kind: Kind
    words: str
    wait: float = 0.0


class RemoteStore(CheckedStore):
    """A store behind an address."""

    def __init__(
        self,
        store: Store,
        missing: Missing = "blank",
        where: str = "",
        denied: list[str] | None = None,
    ) -> None:
        """Wrap a store.

        Args:
            store: where the bytes come from.
            missing: what a chunk means that is not there.
            where: its address, for messages.
            denied: metadata that may not be read; filled as they are met.
        """
        super().__init__(store, missing, denied)
        self.where = where

    def _with_store(self, store: Store) -> RemoteStore:
        return type(self)(store, self.missing, self.where, self.denied)

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed: not on a web server, whose pages may say anything."""
        filesystem = cast("FsspecStore", self._store).fs
        return not isinstance(filesystem, HTTPFileSystem)

    async def exists(self, key: str) -> bool:
        """Whether there is something under a key."""
        first = RangeByteRequest(0, 1)
        return await self._fetch(key, default_buffer_prototype(), first) is not None

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys that begin so."""

        async def listed() -> list[str]:
            return [key async for key in self._store.list_prefix(prefix)]

        for key in await self._tried(prefix, listed):
            yield key

    async def _fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        is_metadata = key.rpartition("/")[2] in METADATA
        try:
            found = await self._tried(key, lambda: self._store.get(key, prototype, byte_range))
        except Denied:
            if not is_metadata:
                raise
            # stores that one may not list say so of everything that is not there
            self.denied.append(key)
            return None
        return None if is_metadata and found is not None and _is_page(found) else found

    async def _tried(self, key: str, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request that may be made again."""
        for tried in range(1, TRIES + 1):
            try:
                return await request()
            except NoCredentialsError:
                # public buckets are read by everybody, and only without a signature
                self._store = _opened(self.where, anon=True)
            except Exception as error:
                reason = fault(error)
                last = {"passing": TRIES, "name": NAME_TRIES, "rights": 1, "lasting": 1}[
                    reason.kind
                ]
                if tried >= last:
                    raise self._said(key, reason) from None
                wait = max(FIRST_WAIT * 2 ** (tried - 1), min(reason.wait, LONGEST_WAIT))
                await asyncio.sleep(wait)
        raise self._said(key, Fault("rights", "no credentials were found"))

    def _said(self, key: str, reason: Fault) -> EmgenError:
        place = f"{self.where}/{key}".rstrip("/")
        advice = {
            "passing": f"it was tried {TRIES} times; start again later, and what is done stays done",
            "name": "no server of this name is known: look whether the address is right and the network is there",
            "rights": RIGHTS,
            "lasting": "look whether the address is right",
        }
        kind = Denied if reason.kind == "rights" else EmgenError
        return kind(f"{place} cannot be read: {reason.words}; {advice[reason.kind]}")


def _is_page(found: Buffer) -> bool:
    """Whether a server that has no metadata sent a page instead."""
    return found.to_bytes()[:64].lstrip().startswith(b"<")


def fault(error: BaseException) -> Fault:
    """What kind of fault an exception is, of those that libraries raise for HTTP and S3."""
    words = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        words = f"the server answers {error.status} ({error.message})"
        if error.status in PASSING:
            return Fault("passing", words, _seconds(error))
        return Fault("rights" if error.status in (401, 403, 407) else "lasting", words)
    if isinstance(error, PermissionError):
        return Fault("rights", words)
    if _is_name_error(error):
        return Fault("name", words)
    passing = (
        *(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, ConnectionError),
        *(NoConnection, HTTPClientError, OtherRange),
    )
    certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
    if (isinstance(error, passing) and not certificate) or (
        isinstance(error, OSError) and error.errno in PASSING_ERRNO
    ):
        return Fault("passing", words)
    return Fault("lasting", words)


def _is_name_error(error: BaseException) -> bool:
    chain = [error, error.__cause__, error.__context__, getattr(error, "os_error", None)]
    return isinstance(error, aiohttp.ClientConnectorDNSError) or any(
        isinstance(each, socket.gaierror) for each in chain
    )


def _seconds(error: aiohttp.ClientResponseError) -> float:
    """What a server asks to wait."""
    stated = "" if error.headers is None else error.headers.get("Retry-After", "")
    return float(stated) if stated.isascii() and stated.isdecimal() else 0.0
