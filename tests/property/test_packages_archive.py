# SPDX-License-Identifier: MIT
"""Any tree of files is named by its content, and arrives as it left however the stream is cut."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.packages.archive import Unpacker, pack
from pydra.cluster.packages.content import read_content
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

PARTS = ("a", "b", "c.py", "META")

trees = st.dictionaries(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(tuple),
    st.tuples(st.binary(max_size=40), st.booleans()),
    max_size=8,
).map(
    lambda tree: {
        "/".join(path): file
        for path, file in tree.items()
        if not any(path[:end] in tree for end in range(1, len(path)))
    }
)

Tree = dict[str, tuple[bytes, bool]]


def write(directory: Path, tree: Tree) -> PackageVersion:
    for name, (data, executable) in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
    return read_content(directory).version


@given(one=trees, other=trees)
def test_two_trees_have_one_version_only_if_they_are_the_same(one: Tree, other: Tree) -> None:
    """Paths, executable bits and bytes all count."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        assert (one == other) == (write(Path(first), one) == write(Path(second), other))


@given(tree=trees, size=st.integers(1, 200))
def test_a_tree_arrives_as_it_left(tree: Tree, size: int) -> None:
    """In pieces of any size."""
    with tempfile.TemporaryDirectory() as place:
        (source := Path(place, "source")).mkdir()
        version = write(source, tree)
        stream = b"".join(pack(source))
        unpacker = Unpacker(Path(place, "there"), PackageName("demo"), version)
        for start in range(0, len(stream), size):
            unpacker.write(stream[start : start + size])
        assert read_content(unpacker.finish()) == read_content(source)


@given(tree=trees, place=st.integers(0), bit=st.integers(0, 7))
def test_a_stream_with_one_wrong_bit_is_refused(tree: Tree, place: int, bit: int) -> None:
    """Wherever the bit is, nothing is kept."""
    with tempfile.TemporaryDirectory() as directory:
        (source := Path(directory, "source")).mkdir()
        version = write(source, tree)
        stream = bytearray(b"".join(pack(source)))
        stream[place % len(stream)] ^= 1 << bit
        unpacker = Unpacker(Path(directory, "there"), PackageName("demo"), version)
        try:
            unpacker.write(bytes(stream))
            unpacker.finish()
        except PackageRefused:
            unpacker.abort()
        else:
            raise AssertionError("a wrong stream was kept")
        assert [path.name for path in Path(directory, "there").iterdir()] == []
