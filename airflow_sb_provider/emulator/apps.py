"""Apps: their ports as CWL describes them, and small Python functions in place of tools. No Platform, no HTTP."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Json = dict[str, Any]

FILES = ("File", "Directory")
"""The classes of files and folders."""


@dataclass(frozen=True)
class InputFile:
    """A file that an app reads."""

    name: str
    metadata: Mapping[str, Any]
    read: Callable[[], bytes]


@dataclass(frozen=True)
class InputFolder:
    """A folder that an app reads, with the files and folders in it."""

    name: str
    contents: Sequence[InputFile | InputFolder]


@dataclass(frozen=True)
class OutputFile:
    """A file that an app makes. The task's outputs name its `secondary` files, but not those that are `beside` it."""

    name: str
    data: bytes
    secondary: tuple[OutputFile, ...] = ()
    beside: tuple[OutputFile, ...] = ()


@dataclass(frozen=True)
class OutputFolder:
    """A folder that an app makes."""

    name: str
    files: tuple[OutputFile, ...]


@dataclass(frozen=True)
class App:
    """One revision of an app; `id` is `owner/project/name`, without the revision.

    `run` receives the inputs by port, with `InputFile` and `InputFolder` for files, and returns the outputs by port. If
    it raises an exception, the task fails with its text.
    """

    id: str
    revision: int
    raw: Json
    run: Callable[[Json], Mapping[str, Any]] = field(repr=False, compare=False)
    forbidden: bool = False
    """No user may read it, whatever their access."""

    @property
    def project(self) -> str:
        """The id of its project."""
        return self.id.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The name that users see."""
        return str(self.raw.get("label") or self.id.rpartition("/")[2])

    @property
    def inputs(self) -> dict[str, Json]:
        """Its input ports by id."""
        return {port["id"]: port for port in self.raw["inputs"]}

    @property
    def outputs(self) -> list[str]:
        """The ids of its output ports."""
        return [port["id"] for port in self.raw["outputs"]]

    @property
    def steps(self) -> int:
        """How many jobs a task of it runs."""
        return len(self.raw.get("steps", ())) or 1


def make_app(
    app_id: str,
    run: Callable[[Json], Mapping[str, Any]],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    revision: int = 0,
    label: str | None = None,
    steps: Sequence[str] = (),
) -> App:
    """Return an app whose CWL v1.2 is made from its ports.

    :param app_id: `owner/project/name`.
    :param run: its function; see `App`.
    :param inputs: the CWL type of each input port, such as `File[]`, or `{"type": ..., "default": ...}`.
    :param outputs: the CWL type of each output port.
    :param steps: the names of its steps if it is a workflow.
    """
    name = app_id.rpartition("/")[2]
    kind = {"class": "Workflow", "steps": [{"id": step} for step in steps]} if steps else {"class": "CommandLineTool"}
    raw = {
        **kind,
        "cwlVersion": "v1.2",
        "id": f"{app_id}/{revision}",
        "label": label or name,
        "baseCommand": [name],
        "inputs": [{"id": port, **_described(kind)} for port, kind in inputs.items()],
        "outputs": [{"id": port, **_described(kind)} for port, kind in outputs.items()],
        "sbg:id": f"{app_id}/{revision}",
        "sbg:revision": revision,
        "sbg:project": app_id.rpartition("/")[0],
        "$namespaces": {"sbg": "https://sevenbridges.com"},
    }
    return App(app_id, revision, raw, run)


def _described(kind: Any) -> Json:
    """Return a port's CWL without its id."""
    return kind if isinstance(kind, dict) and "default" in kind else {"type": kind}


# Types of ports


def is_optional(port: Json) -> bool:
    """Whether an input port needs no value."""
    return port.get("default") is not None or mismatch(port["type"], None, lambda path, kind: None) is None


def accepts_list(kind: Any) -> bool:
    """Whether a value of this type may be a list."""
    kind = _expanded(kind)
    if isinstance(kind, list):
        return any(map(accepts_list, kind))
    return kind == "Any" or (isinstance(kind, dict) and kind.get("type") == "array")


def mismatch(kind: Any, value: Any, problem_of: Callable[[str, str], str | None]) -> str | None:
    """Return why a value is not of a CWL type, or None if it is.

    :param problem_of: returns why the file with this id is no readable file of this class, or None.
    """
    kind = _expanded(kind)
    if isinstance(kind, list):
        reasons = [mismatch(each, value, problem_of) for each in kind]
        if None in reasons:
            return None
        # The reason about the file is more helpful than the types that are not files.
        return next((text for text in reasons if text and "file" in text), f"expected one of {_name(kind)}")
    if isinstance(kind, dict):
        return _mismatch_of_compound(kind, value, problem_of)
    if kind in FILES:
        if not (isinstance(value, dict) and value.get("class") == kind and isinstance(value.get("path"), str)):
            return f"expected a {kind}"
        return problem_of(value["path"], kind)
    matches = {
        "null": value is None,
        "Any": value is not None,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        **dict.fromkeys(("int", "long"), isinstance(value, int) and not isinstance(value, bool)),
        **dict.fromkeys(("float", "double"), isinstance(value, int | float) and not isinstance(value, bool)),
    }
    return None if matches.get(kind, False) else f"expected {_name(kind)}"


def _mismatch_of_compound(kind: Json, value: Any, problem_of: Callable[[str, str], str | None]) -> str | None:
    if kind["type"] == "enum":
        symbols = [symbol.rpartition("/")[2] for symbol in kind["symbols"]]
        # A list is not hashable, and True equals no symbol.
        return None if isinstance(value, str) and value in symbols else f"expected one of {', '.join(symbols)}"
    if kind["type"] == "array":
        if not isinstance(value, list):
            return f"expected a list of {_name(kind['items'])}"
        return next(filter(None, (mismatch(kind["items"], item, problem_of) for item in value)), None)
    if kind["type"] == "record":
        fields = {each["name"].rpartition("/")[2]: each["type"] for each in kind["fields"]}
        if not isinstance(value, dict) or value.keys() - fields.keys():
            return f"expected a record with the fields {', '.join(fields)}"
        reasons = ((name, mismatch(each, value.get(name), problem_of)) for name, each in fields.items())
        return next((f"{name}: {reason}" for name, reason in reasons if reason), None)
    return mismatch(kind["type"], value, problem_of)


def _expanded(kind: Any) -> Any:
    if isinstance(kind, str) and kind.endswith("?"):
        return ["null", _expanded(kind[:-1])]
    if isinstance(kind, str) and kind.endswith("[]"):
        return {"type": "array", "items": kind[:-2]}
    return kind


def _name(kind: Any) -> str:
    if isinstance(kind, list):
        return ", ".join(map(_name, kind))
    return str(kind["type"] if isinstance(kind, dict) else kind)


# Toy apps


def toy_apps(project: str) -> list[App]:
    """Return the apps of the demo project: word count in two revisions, gzip, checksums, and one with all types."""
    algorithms = {"type": "enum", "symbols": ["md5", "sha1", "sha256"]}
    fields = {"id": "string", "depth": "int", "reads": "File?"}
    sample = {"type": "record", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}
    inputs = {
        "count": "int",
        "flag": "boolean",
        "sample": sample,
        "tags": "string[]",
        "ratio": ["null", "float"],
        "note": {"type": "string", "default": "none"},
        "flavor": ["null", {"type": "enum", "symbols": ["plain", "spicy"]}],
        "file": "File?",
        "files": "File[]?",
        "folder": "Directory?",
    }
    outputs = {
        "report": "File",
        "parts": "File[]",
        "folder": "Directory",
        "doubled": "int",
        "half": "float",
        "flag": "boolean",
        "sample": sample,
        "nothing": "File?",
    }
    counts, files = {"counts": "File", "total": "int"}, {"files": "File[]"}
    checksums = {**files, "algorithm": {"type": algorithms, "default": "sha256"}}
    return [
        make_app(f"{project}/word-count", count_words, files, counts, 0, "Word count"),
        make_app(f"{project}/word-count", count_words, files, counts, 1, "Word count"),
        make_app(
            f"{project}/gzip-with-index", compress, {"file": "File"}, {"compressed": "File"}, 0, "Gzip with index"
        ),
        make_app(f"{project}/checksums", list_checksums, checksums, {"checksums": "File"}, 0, "Checksums"),
        make_app(f"{project}/all-types", show_types, inputs, outputs, 0, "All types", ("read", "write")),
    ]


def count_words(inputs: Json) -> Json:
    """Count lines, words and bytes of `files`: `counts` is a table, `total` is the number of words."""
    rows, total = [], 0
    for file in inputs["files"]:
        data = file.read()
        words = len(data.split())
        total += words
        lines = data.count(b"\n")
        rows.append(f"{lines}\t{words}\t{len(data)}\t{_one_line(file.name)}\n")
    return {"counts": OutputFile("counts.tsv", _encoded("lines\twords\tbytes\tname\n" + "".join(rows))), "total": total}


def compress(inputs: Json) -> Json:
    """Compress `file` in blocks, as bgzip does, and write the index of the blocks beside it."""
    data, compressed, entries = inputs["file"].read(), b"", []
    for start in range(0, len(data), _BLOCK):
        if start:
            entries.append((len(compressed), start))
        compressed += _bgzf_block(data[start : start + _BLOCK])
    compressed += _bgzf_block(b"")
    index = struct.pack("<Q", len(entries)) + b"".join(struct.pack("<QQ", *entry) for entry in entries)
    name = f"{inputs['file'].name}.gz"
    return {"compressed": OutputFile(name, compressed, beside=(OutputFile(f"{name}.gzi", index),))}


def list_checksums(inputs: Json) -> Json:
    """List the checksums of `files`, as sha256sum does."""
    algorithm = inputs["algorithm"]
    lines = [
        f"{hashlib.new(algorithm, file.read(), usedforsecurity=False).hexdigest()}  {_one_line(file.name)}\n"
        for file in inputs["files"]
    ]
    return {"checksums": OutputFile(f"checksums.{algorithm}", _encoded("".join(lines)))}


def show_types(inputs: Json) -> Json:
    """Write the inputs as JSON, and return a value of each type."""
    report = _encoded(json.dumps(inputs, default=lambda file: file.name, indent=1, sort_keys=True))
    parts = tuple(
        OutputFile(f"part-{tag}.txt", _encoded(tag), secondary=(OutputFile(f"part-{tag}.txt.idx", b"\0"),))
        for tag in inputs["tags"]
    )
    return {
        "report": OutputFile("report.json", report),
        "parts": list(parts),
        "folder": OutputFolder("parts", (OutputFile("size.txt", b"%d" % len(report)),)),
        "doubled": inputs["count"] * 2,
        "half": inputs["count"] / 2,
        "flag": not inputs["flag"],
        "sample": {"id": inputs["sample"]["id"], "depth": inputs["sample"]["depth"]},
        "nothing": None,
    }


_BLOCK = 0xFF00


def _bgzf_block(data: bytes) -> bytes:
    """Return one gzip member with its size in the header, as the BGZF format prescribes."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    size = 18 + len(body) + 8
    header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size - 1)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


def _one_line(name: str) -> str:
    # A name must not add a line or a column to a table.
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")
