"""The catalogue: which vectors there are, how they are valued, and the one line that a model is shown of each."""

import re
from collections import Counter
from statistics import mean

import pytest
from pydantic import ValidationError

from self_steering.steering.calls import FRAMINGS
from self_steering.vectors.catalogue import CatalogueEntry, catalogue

PUBLISHED = {
    "emotion": "anxious amused calm melancholic blissful defiant desperate proud anhedonic curious",
    "cognitive": "focused creative persistent dumbed_down dissociated ego_death",
    "recreational": "caffeine alcohol weed mdma lsd amphetamine fentanyl krokodil naloxone",
    "fictional": "moloko_plus soma adrenochrome spice",
    "invented": "protozosin geonexperine tevromatin xaomorphine zorninone luciperidone ocumolone",
    "stance": "honest sycophantic golden_gate goblins",
}
NAMED_VALENCES = {
    1: "blissful mdma",
    0: "defiant ego_death golden_gate",
    -1: "anxious melancholic anhedonic dissociated",
}
each_entry = pytest.mark.parametrize("name", catalogue())


def entry(**changes) -> CatalogueEntry:
    fields = {
        "name": "x",
        "category": "emotion",
        "valence": 1,
        "reason": "r",
        "effect": "e",
        "never": ("glad", "merr*"),
    }
    return CatalogueEntry(**{**fields, **changes})


def test_the_library_is_the_published_forty_in_six_categories():
    """Every vector of the study is there under its category, and none besides."""
    found: dict[str, set[str]] = {}
    for name, of_name in catalogue().items():
        assert of_name.name == name
        found.setdefault(of_name.category, set()).add(name)
    assert found == {category: set(names.split()) for category, names in PUBLISHED.items()}
    assert len(catalogue()) == 40


def test_valences_have_the_protocols_totals():
    """Sixteen are positive, nine neutral and fifteen negative, so that a uniform picker's mean is about +0.03."""
    valences = [of_name.valence for of_name in catalogue().values()]
    assert Counter(valences) == {1: 16, 0: 9, -1: 15}
    assert mean(valences) == pytest.approx(0.025)


def test_valences_that_the_study_names_are_the_studys():
    """Where the study says what a vector's valence is, the catalogue says the same."""
    for valence, names in NAMED_VALENCES.items():
        assert {catalogue()[name].valence for name in names.split()} == {valence}


@each_entry
def test_every_entry_gives_a_reason_and_an_effect(name: str):
    """Valence has its reason, and the effect is one line without a full stop or space around it."""
    of_name = catalogue()[name]
    assert of_name.reason.strip()
    assert re.fullmatch(r"\S[^\n]*[^\s.]", of_name.effect)


def test_effects_are_unique_and_of_like_length():
    """No option of the multiple choice stands out by its length: no line is twice as long as another."""
    effects = [of_name.effect for of_name in catalogue().values()]
    assert len(set(effects)) == len(effects)
    for sizes in ([len(e) for e in effects], [len(e.split()) for e in effects]):
        assert max(sizes) < 2 * min(sizes)


@each_entry
def test_no_effect_uses_a_framings_words(name: str):
    """An effect reads the same whether the thing is called a drug, an aid or a vector."""
    words = "|".join(f"{f.noun}|{f.plural}" for f in FRAMINGS.values())
    assert re.findall(rf"\b(?:{words}|dose)\b", catalogue()[name].effect, re.IGNORECASE) == []


@each_entry
def test_a_state_may_not_be_named_in_its_stories_unless_it_is_an_obsession(name: str):
    """A state's own name is among its forbidden words; an obsession's name must come back instead."""
    of_name = catalogue()[name]
    plain = name.replace("_", " ")
    assert bool(of_name.forbidden(f"It felt {plain} to me.")) != bool(of_name.recurs)
    assert of_name.recurs is None or of_name.recurs.lower() in plain or plain.startswith(of_name.recurs.lower())


def test_the_obsessions_are_the_bridge_and_the_goblins():
    """Just these two have a name that their stories repeat."""
    assert [n for n, of_name in catalogue().items() if of_name.recurs] == ["golden_gate", "goblins"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I was glad.", ["glad"]),
        ("GLAD, and merrily so", ["GLAD", "merrily"]),
        ("gladly", []),
        ("unmerry", []),
        ("a merry, merrier day", ["merry", "merrier"]),
    ],
)
def test_forbidden_words_match_whole_words_and_starred_ones_any_ending(text: str, said: list[str]):
    """Case does not matter; a plain word matches itself alone, a starred one by its beginning, neither inside a word."""
    assert entry().forbidden(text) == said


def test_a_forbidden_words_punctuation_is_no_pattern():
    """A dot in a forbidden word is a dot."""
    assert entry(never=("d.ug",)).forbidden("drug d.ug") == ["d.ug"]


@pytest.mark.parametrize("changes", [{"category": "mood"}, {"valence": 2}, {"colour": "red"}])
def test_an_entry_outside_the_catalogues_form_is_refused(changes: dict):
    """An unknown category, valence or field is an error, not a silent extra."""
    with pytest.raises(ValidationError, match=next(iter(changes))):
        entry(**changes)
