"""Files of the lake: how they join, what a gap says, what a merge leaves.

Rule 1. Offsets are drawn as they stand in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from adapters.lake import RETIRED, Lake, LakeFile, LakeGapError, LakeLockedError

MARKS = {("transactions", 0): 41, ("labels", 1): 7}


def write(lake: Lake, first: int, after: int, topic: str = "features", partition: int = 0) -> None:
    frame = pl.DataFrame({"log_offset": list(range(first, after))}, schema={"log_offset": pl.Int64})
    lake.write_chunk(topic, partition, (first, after), frame, MARKS, "abc")


def offsets(lake: Lake, topic: str = "features") -> list[int]:
    return lake.scan(topic).collect()["log_offset"].to_list()


def test_a_lake_without_files_has_no_next_offset(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.next_offset("features", 0) is None
    assert lake.files("features") == []
    assert lake.topics() == []
    with pytest.raises(FileNotFoundError, match="no file of topic features"):
        lake.scan("features")


def test_files_are_read_in_log_order_and_carry_their_marks(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write(lake, 10, 12)
    write(lake, 0, 10)
    assert offsets(lake) == list(range(12))
    assert lake.next_offset("features", 0) == 12
    newest = lake.files("features")[-1]
    assert (newest.marks, newest.feature_hash, newest.rows) == (MARKS, "abc", 2)


def test_a_file_without_rows_still_moves_the_next_offset(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write_chunk("features", 0, (0, 5), pl.DataFrame(schema={"log_offset": pl.Int64}), {})
    write(lake, 5, 6)
    assert lake.next_offset("features", 0) == 6
    assert offsets(lake) == [5]


def test_a_gap_between_files_is_refused_by_name(tmp_path: Path) -> None:
    #   [0 ---- 10)     [12 -- 15)
    lake = Lake(tmp_path)
    write(lake, 0, 10)
    write(lake, 12, 15)
    with pytest.raises(LakeGapError, match=r"features/0.*no file for offsets 10 \.\. 11.*0010\.parquet and 0*12-"):
        lake.files("features")


def test_files_that_overlap_in_part_are_refused_by_name(tmp_path: Path) -> None:
    #   [0 ---- 10)
    #        [8 ---- 15)
    lake = Lake(tmp_path)
    write(lake, 0, 10)
    write(lake, 8, 15)
    with pytest.raises(LakeGapError, match=r"has twice offsets 8 \.\. 9"):
        lake.files("features")


def test_a_merged_file_covers_its_parts_before_and_after_they_are_swept(tmp_path: Path) -> None:
    #   [0-3)[3-5)[5-9)[9-11)     parts
    #        [3 ---- 9)           merged
    lake = Lake(tmp_path)
    for first, after in ((0, 3), (3, 5), (5, 9), (9, 11)):
        write(lake, first, after)
    merged = lake.merge(lake.files("features")[1:3])
    assert (merged.first, merged.next, merged.rows, merged.marks) == (3, 9, 6, MARKS)
    assert offsets(lake) == list(range(11))
    assert lake.sweep("features", 0, older_than_s=3600) == 0
    assert lake.sweep("features", 0, older_than_s=0) == 2
    assert offsets(lake) == list(range(11))
    assert len(list((tmp_path / "features" / "0").iterdir())) == 3


def test_a_writer_killed_before_its_rename_leaves_nothing_that_counts(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write(lake, 0, 3)
    leftover = tmp_path / "features" / "0" / f"{3:020d}-{9:020d}.part"
    leftover.write_bytes(b"PAR1 half a file")
    assert offsets(lake) == [0, 1, 2]
    lake.sweep("features", 0, older_than_s=0)
    assert not leftover.exists()


def test_files_of_other_features_are_left_out_when_features_are_asked_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write(lake, 0, 3)
    lake.write_chunk("features", 0, (3, 4), pl.DataFrame({"log_offset": [3], "other": [1.0]}), MARKS, "old")
    assert lake.scan("features", "abc").collect()["log_offset"].to_list() == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match="of features new"):
        lake.scan("features", "new")


def test_an_alert_that_was_written_twice_is_read_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = pl.DataFrame({"origin_partition": [0, 0, 1], "origin_offset": [4, 4, 4], "score": [0.9, 0.8, 0.7]})
    lake.write_chunk("alerts", 0, (0, 3), rows, {})
    assert lake.scan("alerts").collect()["score"].to_list() == [0.9, 0.7]


def test_a_second_archiver_is_refused(tmp_path: Path) -> None:
    with Lake(tmp_path).locked_for_writing(), pytest.raises(LakeLockedError), Lake(tmp_path).locked_for_writing():
        pass


def test_a_missing_first_file_is_a_gap_too(tmp_path: Path) -> None:
    #  [0 --- 4)  [4 -- 9)      the first one is lost
    lake = Lake(tmp_path)
    write(lake, 4, 9)
    with pytest.raises(LakeGapError, match=r"features/0: the lake has no file for offsets 0 \.\. 3, before 0*4-"):
        lake.scan("features")


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b""], ids=["truncated", "empty"])
def test_a_damaged_file_is_refused_by_name_with_its_offsets(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    lake = Lake(tmp_path)
    write(lake, 0, 4)
    write(lake, 4, 9)
    path = lake.files("features")[1].path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LakeGapError, match=r"features/0: the lake cannot read offsets 4 \.\. 8, in 0*4-0*9\.parquet"):
        lake.scan("features")


def test_a_column_that_came_later_is_null_in_older_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write_chunk("scores", 0, (0, 2), pl.DataFrame({"log_offset": [0, 1], "score": [0.1, 0.2]}), {})
    later = pl.DataFrame({"log_offset": [2], "score": [0.3], "batch_score": [0.4]})
    lake.write_chunk("scores", 0, (2, 3), later, {})
    rows = lake.scan("scores").collect()
    assert rows["log_offset"].to_list() == [0, 1, 2]
    assert rows["batch_score"].to_list() == [None, None, 0.4]


def test_while_somebody_reads_nothing_is_deleted_and_afterwards_it_is(tmp_path: Path) -> None:
    lake, reader = Lake(tmp_path), Lake(tmp_path)
    write(lake, 0, 3)
    write(lake, 3, 5)
    with reader.reading():
        listed = reader.files("features")
        lake.merge(lake.files("features"))
        assert lake.sweep("features", 0, older_than_s=0) == 0
        assert lake.retire(lake.files("features")) is None
        assert sum(pl.read_parquet(file.path).height for file in listed) == 5
    assert lake.sweep("features", 0, older_than_s=0) == 2


def test_rows_that_were_let_go_leave_a_file_that_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for first, after in ((0, 3), (3, 5), (5, 9)):
        write(lake, first, after)
    lake.retire(lake.files("features")[:2])
    assert offsets(lake) == [5, 6, 7, 8]
    assert [(file.first, file.next, file.gone) for file in lake.files("features")] == [(0, 5, RETIRED), (5, 9, None)]
    assert lake.sweep("features", 0, older_than_s=0) == 2
    assert offsets(lake) == [5, 6, 7, 8]


def test_a_listing_that_missed_a_file_that_just_came_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, real = Lake(tmp_path), Lake.all_files
    for first, after in ((0, 3), (3, 5), (5, 9)):
        write(lake, first, after)
    answers = [lambda files: [file for file in files if file.first != 3], lambda files: files]

    def listed(self: Lake, topic: str, partition: int) -> list[LakeFile]:
        return answers.pop(0)(real(self, topic, partition))

    monkeypatch.setattr(Lake, "all_files", listed)
    assert [file.first for file in lake.files("features")] == [0, 3, 5]
    assert not answers
