"""Documents, vocabulary, split and trie, held against plain Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegen.errors import EegenError
from eegen.run.data import MAX_VOCABULARY, Dataset, build_dataset, load_documents, split, vocabulary

text = st.text(st.sampled_from("abcé字🙂"), max_size=9)
several = st.lists(text, min_size=1, max_size=12)


def dataset(documents: list[str], block_size: int) -> Dataset:
    return build_dataset(documents, vocabulary(documents), block_size)


def prefixes(data: Dataset) -> list[tuple[int, ...]]:
    """The tokens read up to each position, the slow way."""
    spans = zip(data.starts[:-1], data.starts[1:], strict=True)
    return [tuple(data.token[start : p + 1].tolist()) for start, end in spans for p in range(start, end)]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_bundled_names_are_complete() -> None:
    names = load_documents()
    assert len(names) == 32_469
    assert len(set(names)) == 29_910
    assert vocabulary(names) == "abcdefghijklmnopqrstuvwxyz"


def test_bundled_trie_leaves_a_quarter_of_the_positions() -> None:
    names = load_documents()
    data = dataset(names, 16)
    assert data.positions == sum(min(len(name) + 1, 16) for name in names)
    assert data.n_nodes == len({name[:level] for name in names for level in range(min(len(name) + 1, 16))})
    assert data.n_nodes / data.positions == pytest.approx(0.26, abs=0.01)


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        (b"emma\nolivia\n", ["emma", "olivia"]),
        (b"emma\nolivia", ["emma", "olivia"]),
        (b"\n  emma \t\n\n \nolivia\n", ["emma", "olivia"]),
        (b"emma\r\nolivia\r\n", ["emma", "olivia"]),
        (b"\xef\xbb\xbfemma\n", ["emma"]),
        ("zoë\n佐藤\n".encode(), ["zoë", "佐藤"]),
        ("a\u2028b\x0bc\n".encode(), ["a\u2028b\x0bc"]),
        (b"mary ann\nemma\nemma\n", ["mary ann", "emma", "emma"]),
    ],
)
def test_a_line_is_a_document(tmp_path: Path, content: bytes, documents: list[str]) -> None:
    assert load_documents(written(tmp_path / "names.txt", content)) == documents


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"emma\0\n", r"is binary \(a zero byte at offset 4\)"),
        ("emma\n".encode("utf-16"), "is binary"),
        (b"emma\nzo\xeb\n", "is not UTF-8: byte 0xeb at offset 7, line 2"),
        (b"\xef\xbb\xbfzo\xeb\n", "at offset 5, line 1"),
        (b"emma\xc3", "byte 0xc3 at offset 4, line 1"),
    ],
)
def test_unreadable_data_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(EegenError, match=message) as refusal:
        load_documents(written(tmp_path / "names.txt", content))
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_missing_data_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EegenError, match=r"nothing\.txt does not exist"):
        load_documents(tmp_path / "nothing.txt")
    with pytest.raises(EegenError, match="is a directory"):
        load_documents(tmp_path)
    with pytest.raises(EegenError, match="cannot be read: Not a directory"):
        load_documents(written(tmp_path / "names.txt", b"emma") / "below")


def test_data_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EegenError, match="cannot be read: Permission denied"):
        load_documents(tmp_path / "names.txt")


def test_vocabulary_is_bounded() -> None:
    most = "".join(map(chr, range(0x4E00, 0x4E00 + MAX_VOCABULARY - 1)))
    assert vocabulary([most]) == most
    with pytest.raises(EegenError, match=f"{MAX_VOCABULARY} distinct characters; at most {MAX_VOCABULARY - 1}"):
        vocabulary([most, "a"])


def test_positions_of_a_document() -> None:
    data = build_dataset(["ba", "a"], "ab", 8)
    assert data.vocab_size == 3
    assert data.starts.tolist() == [0, 3, 5]
    assert data.token.tolist() == [2, 1, 0, 2, 0]
    assert data.target.tolist() == [1, 0, 2, 0, 2]
    assert data.node.tolist() == [0, 2, 3, 0, 1]
    assert (data.n_nodes, data.longest, data.mean_positions) == (4, 3, 2.5)


@given(several, st.integers(1, 10))
@settings(deadline=None)
def test_every_position_reads_a_token_and_predicts_the_next(documents: list[str], block_size: int) -> None:
    data = dataset(documents, block_size)
    boundary = data.vocab_size - 1
    for number, document in enumerate(documents):
        ids = [boundary, *map(data.chars.index, document), boundary]
        start, end = data.starts[number], data.starts[number + 1]
        assert data.token[start:end].tolist() == ids[:-1][:block_size]
        assert data.target[start:end].tolist() == ids[1:][:block_size]
    assert data.longest == np.diff(data.starts).max()


@given(several, st.integers(1, 10))
@settings(deadline=None)
def test_a_node_is_a_distinct_prefix(documents: list[str], block_size: int) -> None:
    data = dataset(documents, block_size)
    nodes = dict(zip(prefixes(data), data.node.tolist(), strict=True))
    assert [nodes[prefix] for prefix in prefixes(data)] == data.node.tolist()
    assert sorted(nodes.values()) == list(range(data.n_nodes))


@given(several, st.integers(1, 10))
@settings(deadline=None)
def test_nodes_are_numbered_level_by_level(documents: list[str], block_size: int) -> None:
    data = dataset(documents, block_size)
    levels = dict(zip(data.node.tolist(), map(len, prefixes(data)), strict=True))
    by_number = [levels[node] for node in range(data.n_nodes)]
    assert by_number == sorted(by_number)


def test_types_are_those_the_library_takes() -> None:
    data = dataset(["emma", "ava"], 16)
    assert data.starts.dtype == np.int64
    assert {data.token.dtype, data.target.dtype, data.node.dtype} == {np.dtype(np.int32)}
    assert all(array.flags.c_contiguous for array in (data.starts, data.token, data.target, data.node))


def test_an_unknown_character_is_named_with_its_document() -> None:
    with pytest.raises(EegenError, match=r"document 3 \('zoë'\) has the character 'ë', .* the 4 the model knows"):
        build_dataset(["ooze", "", "zoë"], "emoz", 16)
    with pytest.raises(EegenError, match="has the character 'a', .* the 0 the model knows"):
        build_dataset(["a"], "", 16)


def test_a_single_document_is_a_data_set() -> None:
    data = dataset(["a"], 1)
    assert (data.positions, data.n_nodes, data.target.tolist()) == (1, 1, [0])
    with pytest.raises(EegenError, match="at least one"):
        build_dataset([], "a", 16)


@given(several, st.floats(0.01, 0.99), st.integers(0, 2**64 - 1), st.booleans())
@settings(deadline=None)
def test_no_document_is_on_both_sides_of_a_split(
    documents: list[str], fraction: float, seed: int, dedupe: bool
) -> None:
    if len(set(documents)) < 2:
        with pytest.raises(EegenError, match="at least 2 distinct documents, the data has 1"):
            split(documents, fraction, seed)
        return
    train, validation = split(documents, fraction, seed, dedupe)
    assert train and validation
    assert not set(train) & set(validation)
    assert set(train) | set(validation) == set(documents)
    assert len(set(validation)) == len(validation)
    kept = [document for document in documents if document not in validation]
    assert train == (list(dict.fromkeys(kept)) if dedupe else kept)


def test_a_split_is_named_by_its_seed() -> None:
    names = load_documents()
    _, validation = split(names, 0.1, 42)
    assert len(validation) == 2991
    assert split(names, 0.1, 42)[1] == validation
    assert split(names, 0.1, 43)[1] != validation
    assert validation[:3] == ["ava", "sophia", "evelyn"]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(EegenError, match="between 0 and 1"):
        split(["a", "b"], fraction, 42)
