"""The script that lists the files on a volume continues after a file that it cannot read."""

from __future__ import annotations

from tests.docs.conftest import PROJECT, VOLUME
from tests.docs.pages import in_languages


def test_every_alias_is_reported(world, capsys):
    for name, alias in [
        ("0-invisible.txt", ("somebody/else", "a.txt")),
        ("1-forbidden.txt", ("somebody/hidden", "b.txt")),
        ("2-odd.txt", ("no-volume", "c.txt")),
        ("4-lost\nMISSING.txt", (VOLUME, "never-there.txt")),
    ]:
        world.add_file(name, b"x", PROJECT).alias = alias
    [block] = [block for block in in_languages("python") if "aftercare" in str(block)]
    exec(compile(block.text, str(block), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    results = {line.split("'")[1]: line for line in lines if "'" in line}
    assert len(lines) == 5
    assert "moved.txt" in results
    assert results["moved.txt"].endswith("is there")
    for name in ("0-invisible.txt", "1-forbidden.txt", "2-odd.txt"):
        assert "CANNOT BE CHECKED" in results[name]
    assert results["4-lost\\nMISSING.txt"].endswith("IS MISSING")
