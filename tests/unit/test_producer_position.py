"""The position file."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.position import Position, PositionError, PositionFile
from tests.unit.producer_rows import rows


def test_a_world_without_a_position_begins_at_its_beginning(tmp_path: Path):
    assert PositionFile(tmp_path / "producer.json", "handbook-0").load() == Position()


def test_a_position_is_kept_per_world(tmp_path: Path):
    path = tmp_path / "state" / "producer.json"
    PositionFile(path, "handbook-0").save(10, 3)
    PositionFile(path, "handbook-1").save(7, 0)
    PositionFile(path, "handbook-0").save(11, 4)
    assert PositionFile(path, "handbook-0").load() == Position(11, 4)
    assert PositionFile(path, "handbook-1").load() == Position(7, 0)
    assert [entry.name for entry in path.parent.iterdir()] == ["producer.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"worlds": {"handbook-0": {"rows": "x"}}}', '{"worlds": []}'])
def test_a_file_that_is_no_position_file_is_named_with_the_remedy(tmp_path: Path, content: str):
    path = tmp_path / "producer.json"
    path.write_text(content)
    with pytest.raises(PositionError, match=r"producer.json is not a position file .* remove it"):
        PositionFile(path, "handbook-0").load()


def test_marks_of_each_partition_decide_which_rows_are_unsent():
    piece = rows(range(6))
    unsent = Position(rows=1, labels=0, row_marks=(3,), label_marks=(-1,)).unsent_transactions(piece)
    assert unsent["row"].to_list() == [4, 5]
    assert Position(rows=2, labels=1).unsent_labels(piece)["row"].to_list() == [1, 2, 3, 4, 5]
