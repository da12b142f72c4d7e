"""Where the bytes are: the Platform's own copies of files, and the buckets behind the volumes."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

_REAL_BUCKETS = {"s3", "s3a", "gs", "gcs"}
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}")
_ESCAPES = {"%": "%25", "/": "%2F", "\0": "%00"}
_PRIVATE = 0o700
_CHUNK = 1 << 20


@dataclass(frozen=True)
class StoredObject:
    """One object of a bucket."""

    key: str
    size: int
    etag: str
    modified: datetime


class Storage:
    """Bytes through fsspec; blocking, so call it from a thread of your own.

    On S3 (or GCS) a volume's bucket is the real bucket of that name, and `s3://bucket` only says where the
    Platform's own copies live. In a folder, each bucket is a sub-folder that only its owner may enter. Nothing is
    read or written outside the buckets that `make_bucket` has made, and in a folder no symbolic link is followed.

    :param where: a folder or an fsspec URL; nothing for a temporary folder that `close` removes.
    :param endpoint: the URL of an S3-compatible service. Credentials come from the usual AWS environment variables.
    """

    def __init__(self, where: str | None = None, endpoint: str | None = None) -> None:
        self._temporary = tempfile.mkdtemp(prefix="sb-platform-") if where is None else None
        where = self._temporary or where or ""
        self._fs: Any
        if "://" not in where:
            where = str(Path(where).resolve())
        protocol = where.partition("://")[0] if "://" in where else "file"
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if endpoint:
            options["client_kwargs"] = {"endpoint_url": endpoint}
        self._fs, root = url_to_fs(where, **options)
        self._is_folder = isinstance(self._fs, LocalFileSystem)
        self._root = os.path.realpath(root) if self._is_folder else str(root).rstrip("/")
        self._buckets: set[str] = set()
        self._real_buckets = protocol in _REAL_BUCKETS
        self.url = where if "://" in where else f"file://{where}"
        self.is_temporary = self._temporary is not None
        if self._real_buckets:
            self.make_bucket(self._root.partition("/")[0])
        else:
            self._make_private_folder(f"{self._root}/_platform")

    @property
    def has_real_buckets(self) -> bool:
        """Whether volumes stand for buckets of an object store rather than sub-folders."""
        return self._real_buckets

    def close(self) -> None:
        """Remove the temporary folder, if there is one."""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket unless it exists; from then on its objects can be read and written.

        :raises ValueError: the name is none that a bucket can have, or its folder is a symbolic link.
        """
        if not _BUCKET_NAME.fullmatch(bucket):
            raise ValueError(
                f"bucket {bucket!r}: a name begins with a letter or digit and has only letters, digits and . - _"
            )
        path = self._bucket(bucket)
        if not self._real_buckets:
            self._make_private_folder(path)
        elif not self._fs.exists(path):
            self._fs.mkdir(path)
        self._buckets.add(bucket)

    def object_url(self, bucket: str, key: str) -> str:
        """Where the object's bytes can be read on this machine, as an fsspec URL."""
        return str(self._fs.unstrip_protocol(self._object(bucket, key)))

    # The Platform's own copies

    def put_source(self, file_id: str, data: bytes) -> None:
        """Keep the bytes of a Platform file."""
        self._fs.pipe_file(self._source(file_id), data)

    def read_source(self, file_id: str) -> bytes:
        """The bytes of a Platform file; FileNotFoundError once the Platform has none."""
        return bytes(self._fs.cat_file(self._source(file_id)))

    def delete_source(self, file_id: str) -> None:
        """Forget the Platform's own copy."""
        self._fs.rm_file(self._source(file_id))

    # Objects

    def export(self, file_id: str, bucket: str, key: str) -> StoredObject:
        """Write the Platform's copy of a file to an object, all of it or nothing."""
        with self._fs.open(self._source(file_id), "rb") as source:
            return self._write(bucket, key, source)

    def write(self, bucket: str, key: str, data: bytes) -> StoredObject:
        """Write an object that no export made."""
        return self._write(bucket, key, io.BytesIO(data))

    def read(self, bucket: str, key: str) -> bytes:
        """The object's bytes; FileNotFoundError if there is none."""
        return bytes(self._fs.cat_file(self._object(bucket, key)))

    def look(self, bucket: str, key: str) -> StoredObject | None:
        """The object, if it is there."""
        try:
            path = self._object(bucket, key)
            info = self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as failure:
            # No file has a name that is longer than the folder allows.
            if failure.errno == errno.ENAMETOOLONG:
                return None
            raise
        return self._described(key, path, info) if info["type"] == "file" else None

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object, if it is there."""
        if self.look(bucket, key):
            self._fs.rm_file(self._object(bucket, key))

    def list(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """All objects whose key begins with `prefix`, by key."""
        root = self._known(bucket)
        found = []
        for path, info in self._fs.find(root, detail=True).items():
            key = _plain(path.removeprefix(f"{root}/"), self._real_buckets)
            if key.startswith(prefix) and info["type"] == "file" and not self._leads_elsewhere(path):
                found.append(self._described(key, path, info))
        return sorted(found, key=lambda each: each.key)

    def _write(self, bucket: str, key: str, source: Any) -> StoredObject:
        path = self._object(bucket, key)
        if not self._real_buckets and self._fs.isdir(path):
            raise IsADirectoryError(path)
        # A plain file would be seen half written; object stores show an object when it is whole.
        landing = path if self._real_buckets else f"{self._root}/_platform/incoming-{uuid.uuid4().hex}"
        if not self._real_buckets:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with self._fs.open(landing, "wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        if landing != path:
            self._fs.mv(landing, path)
        return StoredObject(key, size, digest.hexdigest(), datetime.now(UTC))

    def _described(self, key: str, path: str, info: dict[str, Any]) -> StoredObject:
        modified = info.get("LastModified") or info.get("mtime") or info.get("created")
        if isinstance(modified, int | float):
            modified = datetime.fromtimestamp(modified, UTC)
        etag = str(info.get("ETag") or "").strip('"') or self._md5(path)
        return StoredObject(key, int(info["size"]), etag, modified or datetime.now(UTC))

    def _md5(self, path: str) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        with self._fs.open(path, "rb") as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _source(self, file_id: str) -> str:
        return f"{self._root}/_platform/{_escaped(file_id)}"

    def _bucket(self, bucket: str) -> str:
        return bucket if self._real_buckets else f"{self._root}/{bucket}"

    def _known(self, bucket: str) -> str:
        if bucket not in self._buckets:
            raise FileNotFoundError(f"there is no bucket {bucket!r}")
        return self._bucket(bucket)

    def _object(self, bucket: str, key: str) -> str:
        root = self._known(bucket)
        if self._real_buckets:
            return f"{root}/{key}"
        path = f"{root}/{'/'.join(map(_escaped, key.split('/')))}"
        if self._leads_elsewhere(path):
            raise FileNotFoundError(f"{path} is or crosses a symbolic link")
        return path

    def _leads_elsewhere(self, path: str) -> bool:
        """Whether a path below the folder is a symbolic link or crosses one."""
        return self._is_folder and os.path.realpath(path) != path

    def _make_private_folder(self, path: str) -> None:
        if not self._is_folder:
            self._fs.makedirs(path, exist_ok=True)
            return
        if self._leads_elsewhere(path):
            raise ValueError(f"{path} is a symbolic link; remove it, or store in another folder")
        # A folder that was there before keeps its mode, what is made in it is private.
        os.makedirs(self._root, _PRIVATE, exist_ok=True)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, _PRIVATE)


def _escaped(part: str) -> str:
    """A part of a key, which is free text, as a file's name that leads nowhere else."""
    escaped = "".join(_ESCAPES.get(character, character) for character in part)
    return escaped.replace(".", "%2E") if escaped in {".", ".."} else escaped or "%"


def _plain(path: str, real_buckets: bool) -> str:
    if real_buckets:
        return path
    parts = (part if part != "%" else "" for part in path.split("/"))
    return "/".join(re.sub("%[0-9A-F]{2}", lambda found: chr(int(found[0][1:], 16)), part) for part in parts)
