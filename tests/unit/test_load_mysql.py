"""A dump is marked where each of its tables is complete, and nothing else of it is touched."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest

from opskit.core.metastore.load_mysql import CountedWhileLoaded

_DUMP = b"""-- a dump

LOCK TABLES `one` WRITE;
INSERT INTO `one` VALUES
(1,'\\nUNLOCK TABLES;\\n');
UNLOCK TABLES;

UNLOCK TABLES;
-- Table structure for table `tw``o`
LOCK TABLES `tw``o` WRITE;
INSERT INTO `tw``o` VALUES ('%b');
UNLOCK TABLES;
-- done
""" % (b"LOCK TABLES `x " * 300)


@pytest.mark.parametrize("size", [1, 7, 1_000, 100_000])
def test_a_question_stands_behind_the_rows_of_each_table_however_the_dump_is_cut(size: int) -> None:
    counted = CountedWhileLoaded(lambda: nullcontext())
    pieces = [_DUMP[at : at + size] for at in range(0, len(_DUMP), size)]
    marked = b"".join(counted.marked(pieces))
    question = rb"SELECT 'opskit has loaded \d';\n"
    assert re.sub(question, b"", marked) == _DUMP
    assert len(re.findall(rb"UNLOCK TABLES;\n" + question, marked)) == 2
    assert marked.index(b"loaded 0'") < marked.index(b"tw``o") < marked.index(b"loaded 1'")
    assert counted._tables == ["one", "tw`o"]
