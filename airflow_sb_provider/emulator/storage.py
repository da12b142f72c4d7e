"""The storage of all bytes: the Platform's copies of files, and the buckets of the volumes."""

from __future__ import annotations

import base64
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
    """Reads and writes bytes through fsspec. All methods block, so call them from a separate thread.

    On S3 (or GCS) a volume's bucket is the real bucket of that name, and `s3://bucket` is where the Platform's copies
    are stored. In a folder, each bucket is a sub-folder that only its owner may enter. Nothing is read or written
    outside the buckets that `make_bucket` created, and in a folder no symbolic link is followed.

    :param where: a folder or an fsspec URL; None for a temporary folder, which `close` removes.
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
        """Whether the buckets are those of an object store rather than sub-folders."""
        return self._real_buckets

    def close(self) -> None:
        """Remove the temporary folder, if there is one."""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def make_bucket(self, bucket: str) -> None:
        """Create the bucket if it does not exist, and allow access to its objects.

        :raises ValueError: the name is not valid for a bucket, or its folder is a symbolic link.
        """
        if not _BUCKET_NAME.fullmatch(bucket):
            raise ValueError(
                f"bucket {bucket!r}: a name begins with a letter or digit and contains only letters, digits and . - _"
            )
        path = self._bucket_path(bucket)
        if not self._real_buckets:
            self._make_private_folder(path)
        elif not self._fs.exists(path):
            self._fs.mkdir(path)
        self._buckets.add(bucket)

    def object_url(self, bucket: str, key: str) -> str:
        """Return the fsspec URL with which programs on this machine can read the object."""
        return str(self._fs.unstrip_protocol(self._object_path(bucket, key)))

    # The Platform's copies

    def put_source(self, file_id: str, data: bytes) -> None:
        """Store the bytes of a Platform file."""
        self._fs.pipe_file(self._source_path(file_id), data)

    def read_source(self, file_id: str) -> bytes:
        """Return the bytes of a Platform file; raises FileNotFoundError if the Platform has no copy."""
        return bytes(self._fs.cat_file(self._source_path(file_id)))

    def delete_source(self, file_id: str) -> None:
        """Delete the Platform's copy."""
        self._fs.rm_file(self._source_path(file_id))

    # Objects

    def export(self, file_id: str, bucket: str, key: str) -> StoredObject:
        """Write the Platform's copy of a file to an object, as a whole or not at all."""
        with self._fs.open(self._source_path(file_id), "rb") as source:
            return self._write(bucket, key, source)

    def write(self, bucket: str, key: str, data: bytes) -> StoredObject:
        """Write an object directly, without an export."""
        return self._write(bucket, key, io.BytesIO(data))

    def read(self, bucket: str, key: str) -> bytes:
        """Return the object's bytes; raises FileNotFoundError if there is no object."""
        return bytes(self._fs.cat_file(self._object_path(bucket, key)))

    def stat(self, bucket: str, key: str) -> StoredObject | None:
        """Return the object, or None if it does not exist."""
        try:
            path = self._object_path(bucket, key)
            info = self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as failure:
            # No file can exist whose name is longer than the folder allows.
            if failure.errno == errno.ENAMETOOLONG:
                return None
            raise
        return self._stored_object(key, path, info) if info["type"] == "file" else None

    def delete(self, bucket: str, key: str) -> None:
        """Delete the object if it exists."""
        if self.stat(bucket, key):
            self._fs.rm_file(self._object_path(bucket, key))

    def checksums(self, bucket: str, key: str) -> tuple[str, str]:
        """Return an object's MD5 and CRC32C, both in base64, as Google Cloud Storage shows them."""
        md5, crc = hashlib.md5(usedforsecurity=False), 0
        with self._fs.open(self._object_path(bucket, key), "rb") as source:
            while chunk := source.read(_CHUNK):
                md5.update(chunk)
                crc = _crc32c(chunk, crc)
        encoded_md5, encoded_crc = (base64.b64encode(each).decode() for each in (md5.digest(), crc.to_bytes(4)))
        return encoded_md5, encoded_crc

    def list(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """Return all objects whose key begins with `prefix`, sorted by key."""
        root = self._existing_bucket(bucket)
        objects = []
        for path, info in self._fs.find(root, detail=True).items():
            key = _unescaped(path.removeprefix(f"{root}/"), self._real_buckets)
            if key.startswith(prefix) and info["type"] == "file" and not self._crosses_symlink(path):
                objects.append(self._stored_object(key, path, info))
        return sorted(objects, key=lambda stored: stored.key)

    def _write(self, bucket: str, key: str, source: Any) -> StoredObject:
        path = self._object_path(bucket, key)
        if not self._real_buckets and self._fs.isdir(path):
            raise IsADirectoryError(path)
        # Others could read a plain file while it is written; object stores show an object only when it is complete.
        target_path = path if self._real_buckets else f"{self._root}/_platform/incoming-{uuid.uuid4().hex}"
        if not self._real_buckets:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with self._fs.open(target_path, "wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        if target_path != path:
            self._fs.mv(target_path, path)
        return StoredObject(key, size, digest.hexdigest(), datetime.now(UTC))

    def _stored_object(self, key: str, path: str, info: dict[str, Any]) -> StoredObject:
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

    def _source_path(self, file_id: str) -> str:
        return f"{self._root}/_platform/{_escaped(file_id)}"

    def _bucket_path(self, bucket: str) -> str:
        return bucket if self._real_buckets else f"{self._root}/{bucket}"

    def _existing_bucket(self, bucket: str) -> str:
        if bucket not in self._buckets:
            raise FileNotFoundError(f"no bucket {bucket!r}")
        return self._bucket_path(bucket)

    def _object_path(self, bucket: str, key: str) -> str:
        root = self._existing_bucket(bucket)
        if self._real_buckets:
            return f"{root}/{key}"
        path = f"{root}/{'/'.join(map(_escaped, key.split('/')))}"
        if self._crosses_symlink(path):
            raise FileNotFoundError(f"{path} is or crosses a symbolic link")
        return path

    def _crosses_symlink(self, path: str) -> bool:
        """Whether a path below the folder is a symbolic link or crosses one."""
        return self._is_folder and os.path.realpath(path) != path

    def _make_private_folder(self, path: str) -> None:
        if not self._is_folder:
            self._fs.makedirs(path, exist_ok=True)
            return
        if self._crosses_symlink(path):
            raise ValueError(f"{path} is a symbolic link; remove it, or choose another storage folder")
        # An existing folder keeps its mode; the folders created in it are private.
        os.makedirs(self._root, _PRIVATE, exist_ok=True)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, _PRIVATE)


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _crc32c_table()


def _crc32c(data: bytes, crc: int = 0) -> int:
    """Return the CRC32C (Castagnoli) of data that follows data with the CRC `crc`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _escaped(part: str) -> str:
    """Return a part of a key as a file name that cannot lead to another folder."""
    escaped = "".join(_ESCAPES.get(character, character) for character in part)
    return escaped.replace(".", "%2E") if escaped in {".", ".."} else escaped or "%"


def _unescaped(path: str, real_buckets: bool) -> str:
    if real_buckets:
        return path
    parts = (part if part != "%" else "" for part in path.split("/"))
    return "/".join(re.sub("%[0-9A-F]{2}", lambda escape: chr(int(escape[0][1:], 16)), part) for part in parts)
