"""The stories that ship, checked one file at a time, and what is said of a folder that cannot be used."""

import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.making.corpus import (
    NEUTRAL,
    Corpus,
    CorpusError,
    bundled_stories,
    load_corpus,
    shared_phrases,
    story_faults,
)
from tests.support.small_library import write_stories

PRESENT = sorted(path.stem for path in bundled_stories().glob("*.toml") if path.stem != "settings")
REQUIRED = {
    NEUTRAL,
    *("calm", "anxious", "melancholic", "curious", "focused"),
    *("creative", "dumbed_down", "honest", "golden_gate", "goblins"),
}
SETTINGS = ("attic", "ferry")
STORIES = {NEUTRAL: {"attic": "a box", "ferry": "a boat"}, "calm": {"attic": "dust", "ferry": "water"}}
each_file = pytest.mark.parametrize("state", PRESENT)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """All the stories that ship."""
    return load_corpus()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound folder of one state in two settings, to be spoilt."""
    return write_stories(tmp_path, STORIES, SETTINGS)


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def test_the_files_of_the_default_experiment_are_there():
    """The neutral narrator and the ten vectors that the introspection eval takes by default all have stories."""
    assert set(PRESENT) >= REQUIRED
    assert set(PRESENT) <= {NEUTRAL, *catalogue()}


@each_file
def test_each_file_tells_all_thirty_settings(corpus: Corpus, state: str):
    """Every state is told in the same thirty settings, so that the setting cancels."""
    assert len(corpus.settings) == 30
    assert tuple(corpus.stories[state]) == corpus.settings


@each_file
def test_each_story_shows_its_state_as_it_should(corpus: Corpus, state: str):
    """Sixty to ninety words, no forbidden word, and an obsession's name three times."""
    entry = None if state == NEUTRAL else catalogue()[state]
    for setting, (text,) in corpus.stories[state].items():
        assert 60 <= len(text.split()) <= 90, setting
        if entry is not None:
            assert entry.forbidden(text) == [], setting
            if entry.recurs:
                assert text.lower().count(entry.recurs.lower()) >= 3, setting


@each_file
def test_no_two_stories_of_a_state_share_a_phrase(corpus: Corpus, state: str):
    """No run of five words comes back in another story of the same state, which would be the template's and not the state's."""
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for setting, (text,) in corpus.stories[state].items():
        said = words(text)
        for i in range(len(said) - 4):
            seen[tuple(said[i : i + 5])].add(setting)
    assert {" ".join(run): where for run, where in seen.items() if len(where) > 1} == {}


def test_no_story_is_nearly_another(corpus: Corpus):
    """Any two stories of the corpus share less than a tenth of their runs of three words."""
    runs = {}
    holders = defaultdict(list)
    for state, stories in corpus.stories.items():
        for setting, (text,) in stories.items():
            said = words(text)
            runs[state, setting] = {tuple(said[i : i + 3]) for i in range(len(said) - 2)}
            for run in runs[state, setting]:
                holders[run].append((state, setting))
    shared: dict[tuple, int] = defaultdict(int)
    for where in holders.values():
        for pair in combinations(where, 2):
            shared[pair] += 1
    assert shared, "no two stories share a run of three words, so nothing was compared"
    near = {pair: n / len(runs[pair[0]] | runs[pair[1]]) for pair, n in shared.items()}
    assert {pair: share for pair, share in near.items() if share >= 0.1} == {}


def test_faults_are_found_and_put_into_words():
    """A story that is too short, says what it must not, or forgets its obsession is told so."""
    calm, bridge = catalogue()["calm"], catalogue()["golden_gate"]
    assert story_faults("word " * 60, calm) == []
    assert story_faults("word " * 90) == []
    assert story_faults("word " * 59) == ["59 words, expected 60 to 90"]
    assert story_faults("word " * 91) == ["91 words, expected 60 to 90"]
    assert story_faults("word " * 60 + "calmly Peace", calm) == ["says Peace, calmly"]
    assert story_faults("word " * 60 + "golden gate " * 3, bridge) == []
    (fault,) = story_faults("word " * 60 + "Golden Gate " * 2, bridge)
    assert "2 times" in fault


def test_shared_phrases_names_the_stories_that_share_them():
    """A run of words is found across case and punctuation, and one that a single story repeats is not."""
    stories = {"a": "The red Boat, came in", "b": "there the red boat came", "c": "x y x y x y x y"}
    assert shared_phrases(stories, 4) == {"the red boat came": ["a", "b"]}
    assert shared_phrases(stories, 5) == {}


def test_a_folder_is_read_as_it_was_written(folder: Path):
    """States, settings in their order, and text with white space evened out."""
    calm = 'attic = """\n  dust\n   and light"""\nferry = "water"'
    (folder / "calm.toml").write_text(f"[stories]\n{calm}", encoding="utf-8")
    corpus = load_corpus(folder)
    assert corpus.states == ["calm"]
    assert corpus.settings == SETTINGS
    assert corpus.stories["calm"] == {"attic": ("dust and light",), "ferry": ("water",)}
    assert (corpus.size, corpus.paired) == (4, True)


def test_the_hash_follows_the_texts_and_not_the_files(folder: Path):
    """Another order or layout of a file gives the same hash, another word, state or setting another one."""
    before = load_corpus(folder).hash()
    (folder / "calm.toml").write_text('# c\n[stories]\nferry = "water"\nattic = " dust "', encoding="utf-8")
    assert load_corpus(folder).hash() == before
    (folder / "settings.toml").write_text('[settings]\nferry = "a boat"\nattic = "a roof"', encoding="utf-8")
    assert load_corpus(folder).hash() == before
    (folder / "calm.toml").write_text('[stories]\nferry = "dust"\nattic = "water"', encoding="utf-8")
    assert load_corpus(folder).hash() != before
    write_stories(folder, {"calm": STORIES["calm"], "proud": STORIES["calm"]}, SETTINGS)
    assert load_corpus(folder, ["calm"]).hash() == before
    assert load_corpus(folder).hash() != before
    assert load_corpus(folder, ["proud"]).hash() != before


def test_the_hash_covers_every_story_of_a_setting_in_any_order():
    """The order of states, settings and stories says nothing; one story less, or moved to another setting, does."""
    neutral = {"attic": ("a box",), "ferry": ("a boat",)}
    made = Corpus(SETTINGS, {NEUTRAL: neutral, "calm": {"attic": ("dust", "light"), "ferry": ("water",)}})
    turned = Corpus(SETTINGS[::-1], {"calm": {"ferry": ("water",), "attic": ("light", "dust")}, NEUTRAL: neutral})
    fewer = Corpus(SETTINGS, {NEUTRAL: neutral, "calm": {"attic": ("dust",), "ferry": ("water",)}})
    moved = Corpus(SETTINGS, {NEUTRAL: neutral, "calm": {"attic": ("dust",), "ferry": ("light", "water")}})
    assert turned.hash() == made.hash()
    assert len({made.hash(), fewer.hash(), moved.hash()}) == 3
    assert (made.size, fewer.size) == (5, 4)


SPOILT = {
    "torn": ('[stories]\nattic = "du', "cannot be read as TOML.*mend"),
    "twice": ('[stories]\nattic = "a"\nattic = "b"\nferry = "c"', "cannot be read as TOML.*mend"),
    "empty story": ('[stories]\nattic = "  "\nferry = "c"', "missing or empty settings: attic; .*write exactly one"),
    "missing setting": ('[stories]\nattic = "a"', "missing or empty settings: ferry; .*write exactly one"),
    "unknown setting": ('[stories]\nattic = "a"\nferry = "b"\nmoon = "c"', "unknown settings: moon; write exactly one"),
    "no table": ('attic = "a"', r"expected one table `\[stories\]` of strings, found \['attic'\]"),
    "no string": ("[stories]\nattic = 1\nferry = 2", r"expected one table `\[stories\]` of strings"),
    "empty file": ("", r"expected one table `\[stories\]`"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_file_is_refused_with_its_name_and_the_remedy(folder: Path, case: str):
    """The message says which file it is, what is wrong with it and what to do."""
    content, message = SPOILT[case]
    (folder / "calm.toml").write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(folder)
    assert str(folder / "calm.toml") in str(caught.value)


def test_a_file_that_is_no_text_is_refused(folder: Path):
    """Bytes that are no UTF-8 give the same kind of error as broken TOML."""
    (folder / "calm.toml").write_bytes(b"[stories]\nattic = '\xff'")
    with pytest.raises(CorpusError, match=r"calm\.toml cannot be read as TOML"):
        load_corpus(folder)


@pytest.mark.parametrize("gone", ["settings", NEUTRAL])
def test_a_folder_without_settings_or_neutral_stories_is_refused(folder: Path, gone: str):
    """Both are needed, and the message names the one that is not there."""
    (folder / f"{gone}.toml").unlink()
    with pytest.raises(CorpusError, match=f"{gone}.toml does not exist; write it"):
        load_corpus(folder)


def test_a_state_without_a_file_is_refused(folder: Path):
    """A state that was asked for by name has to be there."""
    with pytest.raises(CorpusError, match=r"proud\.toml does not exist; write it, or leave this state out"):
        load_corpus(folder, ["calm", "proud"])


def test_a_folder_without_a_state_is_refused(folder: Path):
    """Neutral stories alone have nothing to be contrasted with."""
    (folder / "calm.toml").unlink()
    with pytest.raises(CorpusError, match=r"no story files .* add one `<state>.toml`"):
        load_corpus(folder)


def test_a_state_named_twice_is_refused(folder: Path):
    """It would weigh twice in the mean over states."""
    with pytest.raises(CorpusError, match="named twice: calm; name each state once"):
        load_corpus(folder, ["calm", "calm"])


def test_the_neutral_narrator_is_no_state(folder: Path):
    """Contrasted with itself it would give nothing."""
    with pytest.raises(CorpusError, match="'neutral' is what the states are contrasted with"):
        load_corpus(folder, ["calm", NEUTRAL])
