"""A corpus from a table: files of all kinds, the hub, and what is said of a table that cannot be used."""

import json
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from self_steering.vectors.making import corpus as table_corpus
from self_steering.vectors.making.corpus import NEUTRAL, Corpus, CorpusError, load_corpus, open_corpus
from tests.support.small_library import SETTINGS, STATES, small_corpus, small_stories

ROWS = [
    ("calm", "ferry", "slow water"),
    ("calm", "ferry", "still water, and NA"),
    ("calm", "attic", "dust"),
    (NEUTRAL, "attic", "a box"),
    (NEUTRAL, "ferry", "null"),
    ("proud", "ferry", "my boat"),
    ("proud", "attic", "my roof"),
]
COLUMNS = ["emotion", "topic", "story"]
SUFFIXES = ("parquet", "csv", "jsonl")


def save(table: pd.DataFrame, path: Path) -> Path:
    """Write a table in the format of its suffix."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    return path


def table_of(corpus: Corpus) -> pd.DataFrame:
    rows = [
        (state, topic, text)
        for state, told in corpus.stories.items()
        for topic, texts in told.items()
        for text in texts
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def rows() -> pd.DataFrame:
    """A sound table of two states in two topics, to be spoilt."""
    return pd.DataFrame(ROWS, columns=COLUMNS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_is_read_from_any_kind_of_file(suffix: str, rows: pd.DataFrame, tmp_path: Path):
    """Several stories a cell, further columns passed over, and texts that look like a missing value kept as they are."""
    corpus = open_corpus(save(rows.assign(id=range(len(rows))), tmp_path / f"t.{suffix}"))
    assert corpus.stories == {
        NEUTRAL: {"attic": ("a box",), "ferry": ("null",)},
        "calm": {"attic": ("dust",), "ferry": ("slow water", "still water, and NA")},
        "proud": {"attic": ("my roof",), "ferry": ("my boat",)},
    }
    assert (corpus.settings, corpus.states, corpus.paired) == (("attic", "ferry"), ["calm", "proud"], True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_stories_are_the_same_corpus_from_a_folder_and_from_a_table(suffix: str, tmp_path: Path):
    """The hash knows texts only: neither the file's kind nor the order of its rows."""
    folder = open_corpus(small_stories(tmp_path / "folder"))
    shuffled = table_of(small_corpus()).sample(frac=1, random_state=1)
    table = open_corpus(save(shuffled, tmp_path / f"t.{suffix}"))
    assert table.hash() == folder.hash() == small_corpus().hash()
    assert sorted(table.states) == sorted(STATES)
    assert set(table.settings) == set(SETTINGS)


def test_the_stories_that_ship_survive_the_way_through_a_table(tmp_path: Path):
    """Quotes, commas and dashes of all the bundled stories come back from a CSV file unchanged."""
    bundled = load_corpus()
    assert open_corpus(save(table_of(bundled), tmp_path / "all.csv")).hash() == bundled.hash()


def test_only_the_states_that_were_asked_for_are_read_and_checked(rows: pd.DataFrame, tmp_path: Path):
    """In their order; what is wrong with the stories of another state does not matter."""
    rows.loc[len(rows)] = ("soma", "moon", " ")
    path = save(rows, tmp_path / "t.csv")
    assert list(open_corpus(path, ["proud", "calm"]).stories) == [NEUTRAL, "proud", "calm"]
    with pytest.raises(CorpusError, match="row 8: empty story"):
        open_corpus(path, ["soma"])


def test_a_neutral_narrator_with_topics_of_its_own_must_be_asked_for(rows: pd.DataFrame, tmp_path: Path):
    """Unpaired, it keeps its topics, and the states' topics are the corpus's; otherwise the message says how to ask."""
    rows.loc[3, "topic"] = "harbour"
    path = save(rows, tmp_path / "t.csv")
    corpus = open_corpus(path, unpaired=True)
    assert list(corpus.stories[NEUTRAL]) == ["ferry", "harbour"]
    assert (corpus.settings, corpus.paired) == (("attic", "ferry"), False)
    with pytest.raises(
        CorpusError, match=r"'neutral' has no story in topic 'attic', which 'calm' has in row 3 .*unpaired"
    ):
        open_corpus(path)


def blank(rows: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """Put `value` into the fifth and the last row."""
    rows[column] = rows[column].astype(object)
    rows.loc[[4, 6], column] = value
    return rows


SPOILT = {
    "no column": (
        lambda rows: rows.rename(columns={"topic": "setting"}),
        "no column topic; it has emotion, setting, story; rename or add",
    ),
    "white story": (lambda rows: blank(rows, "story", "  "), "row 5 and 1 more: empty story; write one, or remove"),
    "no story": (lambda rows: blank(rows, "story", None), "row 5 and 1 more: empty story; write one, or remove"),
    "no topic": (lambda rows: blank(rows, "topic", None), "row 5 and 1 more: empty topic"),
    "no emotion": (lambda rows: blank(rows, "emotion", ""), "row 5 and 1 more: empty emotion"),
    "twice": (
        lambda rows: pd.concat([rows, pd.DataFrame([("calm", "attic ", " dust")], columns=COLUMNS)]),
        "rows 3, 8 hold the same story of 'calm' in topic 'attic'; 1 rows repeat another one: remove",
    ),
    "no neutral": (
        lambda rows: rows[rows["emotion"] != NEUTRAL],
        "no row has the emotion 'neutral'; it has calm, proud; add its stories",
    ),
    "neutral only": (
        lambda rows: rows[rows["emotion"] == NEUTRAL],
        "no emotion but 'neutral'; add the stories of a state",
    ),
    "no rows": (lambda rows: rows[:0], "no "),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_table_is_refused_with_its_name_row_and_remedy(
    case: str, suffix: str, rows: pd.DataFrame, tmp_path: Path
):
    """Whatever kind of file it is in, the message says which file, which row, and what to do."""
    spoil, message = SPOILT[case]
    path = save(spoil(rows), tmp_path / f"t.{suffix}")
    with pytest.raises(CorpusError) as caught:
        open_corpus(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (["calm", "soma"], "no row has the emotion 'soma'; it has calm, proud; add its stories, or leave it out"),
        (["calm", "calm"], "named twice: calm"),
        ([NEUTRAL], "'neutral' is what the states are contrasted with"),
    ],
)
def test_states_that_cannot_be_read_are_refused(states: list[str], message: str, rows: pd.DataFrame, tmp_path: Path):
    """A state has to be there, once, and to be a state."""
    with pytest.raises(CorpusError, match=message):
        open_corpus(save(rows, tmp_path / "t.csv"), states)


def _odd_metadata() -> bytes:
    """Return a table whose note for pandas is not what pandas writes."""
    note = {"pandas": json.dumps({"columns": [{}], "index_columns": [{}], "column_indexes": []})}
    stream = BytesIO()
    pq.write_table(pa.table({"emotion": ["calm"]}).replace_schema_metadata(note), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"emotion": "calm"}\n{"emot', r"t\.jsonl cannot be read: row 2 is no JSON.*mend the file"),
        ("t.jsonl", b"[1]\n", r"t\.jsonl cannot be read: row 1 is no JSON object"),
        ("t.csv", b'emotion,topic,story\ncalm,ferry,"wat', r"t\.csv cannot be read: .*mend the file"),
        (
            "t.csv",
            b"emotion,topic,story\ncalm,ferry,w,x\n",
            r"t\.csv cannot be read: .*put stories with a comma into quotes",
        ),
        ("t.csv", b"", r"t\.csv cannot be read: .*mend the file"),
        ("t.csv", b"emotion,topic,story\ncalm,ferry,\xff\n", r"t\.csv cannot be read: .*mend the file"),
        ("t.parquet", b"PAR1", r"t\.parquet cannot be read: .*mend the file"),
        ("t.parquet", _odd_metadata(), r"t\.parquet cannot be read: .*mend the file"),
        (
            "t.xlsx",
            b"",
            r"t\.xlsx is no corpus that can be read; name a folder of stories, a .parquet, .csv or .jsonl file",
        ),
    ],
)
def test_a_torn_or_foreign_file_is_refused(name: str, content: bytes, message: str, tmp_path: Path):
    """The message names the file, what is wrong with it, and the kinds that can be read."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        open_corpus(tmp_path / name)


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "nowhere/t.csv", "a/b/c", "a/b@"])
def test_what_is_nowhere_is_refused_with_the_choices(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither a folder, a file nor the name of a hub data set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CorpusError, match=r"does not exist; .*name a folder of stories, a .parquet, .csv or .jsonl file"
    ):
        open_corpus(source)


def hub(monkeypatch: pytest.MonkeyPatch, **splits: pd.DataFrame) -> list[tuple[str, str | None]]:
    """Let the hub hold one data set; returns what was asked of it."""
    asked = []

    def load(name: str, revision: str | None = None) -> DatasetDict:
        asked.append((name, revision))
        return DatasetDict({split: Dataset.from_pandas(table) for split, table in splits.items()})

    monkeypatch.setattr(table_corpus, "load_dataset", load)
    return asked


@pytest.mark.parametrize(("source", "revision"), [("someone/stories", None), ("some.one/st-1@refs/pr/1", "refs/pr/1")])
def test_a_hub_data_set_is_read_at_its_revision(
    source: str, revision: str | None, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is the same corpus as from a file, and its rows are named in the same way."""
    asked = hub(monkeypatch, train=rows)
    assert open_corpus(source).hash() == open_corpus(save(rows, tmp_path / "t.csv")).hash()
    assert asked == [(source.partition("@")[0], revision)]
    hub(monkeypatch, train=blank(rows, "story", None))
    with pytest.raises(CorpusError, match=f"^{source}: row 5 and 1 more: empty story"):
        open_corpus(source)


def test_a_hub_data_set_of_several_tables_is_refused(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    """None of them is left out without a word."""
    hub(monkeypatch, train=rows, test=rows)
    with pytest.raises(CorpusError, match=r"someone/stories has the splits train, test, .*save the rows you want as"):
        open_corpus("someone/stories")


def test_without_a_network_the_hub_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A name that may be a mistyped folder or a hub data set is said to be neither."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CorpusError, match=r"someone/stories@v1 is no folder here, and .*check the name and the network"
    ):
        open_corpus("someone/stories@v1")
