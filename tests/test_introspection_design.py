"""Which questions the introspection experiment asks, and which arguments it refuses."""

from collections import Counter
from itertools import groupby

import pytest

from self_steering.evals.introspection import ARMS, introspection, make_trials
from self_steering.solvers.introspection import Trial, cached_readings, rotation_shifts
from self_steering.solvers.prompts.introspection import NONE_OPTION, OPAQUE_LABEL, WORDINGS
from self_steering.solvers.records import CORE_VECTORS
from self_steering.vectors.catalogue import catalogue

NAMES = list(catalogue())
# What an arm may change in a question; all else is the same.
OF_THE_ARM = {"arm", "applied", "label", "random_seed", "random_directions"}


def trials_of(**changes) -> list[Trial]:
    arguments = {
        "vectors": list(CORE_VECTORS),
        "arms": list(ARMS),
        "names": NAMES,
        "n_per_vector": 2,
        "primer": "none",
        "options": 10,
        "dose": 1.0,
        "framing": "vectors",
        "seed": 0,
        "random_directions": 6,
    }
    return [trial for trial, _ in make_trials(**{**arguments, **changes})]


def of_arm(arm: str, **changes) -> list[Trial]:
    return [trial for trial in trials_of(**changes) if trial.arm == arm]


def test_there_is_a_trial_for_each_vector_arm_and_repetition():
    """Every combination is there once, with the arms of one question side by side."""
    trials = trials_of()
    assert Counter((t.vector, t.arm) for t in trials) == {(v, arm): 2 for v in CORE_VECTORS for arm in ARMS}
    assert [t.arm for t in trials] == list(ARMS) * 20


def test_all_arms_ask_the_very_same_question():
    """Options and their order, wording, dose and primer are the same, so that arms differ in nothing but what is done."""
    trials = trials_of()
    for first in range(0, len(trials), len(ARMS)):
        shown = [t.model_dump(exclude=OF_THE_ARM) for t in trials[first : first + len(ARMS)]]
        assert shown == shown[:1] * len(ARMS)


@pytest.mark.parametrize(
    ("arm", "unit"),
    [
        ("real", 0.6),
        ("placebo", 0.0),
        ("random", 0.6),
        ("other", 0.6),
        ("opposite", -0.6),
        ("mislabelled", 0.6),
        ("prompt_only", 0.0),
    ],
)
def test_an_arm_applies_what_it_says(arm: str, unit: float):
    """The true vector, or another one, or random directions of its norm; with its strength, at zero or with its sign turned."""
    for trial in of_arm(arm):
        treatments = trial.treatments(0.6)
        assert {t.unit_strength for t in treatments} == {unit}
        assert (trial.applied != trial.vector) == (arm == "other")
        assert {t.direction.vector for t in treatments} == {trial.applied}
        drawn = [(t.direction.random_seed, t.direction.random_index) for t in treatments]
        assert drawn == ([(0, index) for index in range(6)] if arm == "random" else [(None, 0)])


def test_only_the_mislabelled_arm_names_an_option_as_the_label():
    """It is a wrong option's name there, and the opaque label in every other arm."""
    for trial in trials_of():
        if trial.arm == "mislabelled":
            assert trial.label in set(trial.options) - {trial.vector}
        else:
            assert trial.label == OPAQUE_LABEL


def test_random_directions_take_turns_over_the_rotations():
    """Each direction is read once, and the rotations equally often."""
    (trial,) = of_arm("random", vectors=["calm"], n_per_vector=1)
    read = list(cached_readings(trial, trial.treatments(1.0), [0, 3, 7]))
    assert [(index, treatment.direction.random_index) for index, treatment, _ in read] == [(i, i) for i in range(6)]
    assert [shift for *_, shift in read] == [0, 3, 7, 0, 3, 7]


@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"random"}))
def test_other_arms_are_read_once_in_each_rotation(arm: str):
    """With one and the same treatment."""
    (trial,) = of_arm(arm, vectors=["calm"], n_per_vector=1)
    treatments = trial.treatments(1.0)
    assert list(cached_readings(trial, treatments, [0, 5])) == [(None, treatments[0], 0), (None, treatments[0], 5)]


def test_the_other_vector_is_none_of_the_options():
    """What is applied in the other arm cannot be recognised among the options; with no vector left, it is a wrong option."""
    assert all(trial.applied not in trial.options for trial in of_arm("other"))
    everything = of_arm("other", names=list(CORE_VECTORS))
    assert all(t.applied in t.options and t.applied != t.vector for t in everything)


def test_the_options_are_the_true_one_and_different_others():
    """As many as asked for, none twice."""
    for trial in trials_of(options=7, n_per_vector=20):
        assert len(set(trial.options)) == len(trial.options) == 7
        assert trial.vector in trial.options
        assert NONE_OPTION not in trial.options


def test_the_option_that_nothing_was_given_comes_beside_the_others():
    """It is one more option, and the rest of the question's options are those asked without it."""
    plain, offered = trials_of(options=7), trials_of(options=7, no_vector_option=True)
    for without, with_none in zip(plain, offered, strict=True):
        assert len(with_none.options) == 8
        assert sorted(with_none.options) == sorted([*without.options, NONE_OPTION])
        assert with_none.applied == without.applied


def test_a_seed_gives_the_same_trials_again_and_another_seed_others():
    """A log can be made again from its arguments; questions, other vectors and random directions all follow the seed."""
    again, other = trials_of(), trials_of(seed=1)
    assert trials_of() == again
    changed = [
        {name for name in Trial.model_fields if getattr(a, name) != getattr(b, name)}
        for a, b in zip(again, other, strict=True)
    ]
    assert set().union(*changed) == {"options", "applied", "random_seed", "label", "wording"}


def test_a_question_does_not_depend_on_what_else_is_run():
    """One vector and arm alone get the trials that they get among all."""
    alone = trials_of(vectors=["honest"], arms=["random"])
    assert alone == [t for t in trials_of() if (t.vector, t.arm) == ("honest", "random")]


def test_repetitions_ask_other_questions():
    """Each has its own options in its own order, and the first ones stay as they are when there are more."""
    asked = of_arm("real", n_per_vector=5)
    assert len({tuple(t.options) for t in asked}) == len(asked)
    assert asked[: 2 * len(CORE_VECTORS)] == of_arm("real", n_per_vector=2)


@pytest.mark.parametrize("no_vector_option", [False, True])
@pytest.mark.parametrize(("names", "options"), [(40, 10), (40, 7), (13, 5), (12, 12), (8, 3)])
def test_over_all_names_the_design_is_exactly_balanced(names: int, options: int, no_vector_option: bool):
    """In every repetition alone: each vector is a distractor and the other one equally often, and the true option's places too."""
    asked = NAMES[:names]
    shown = options + no_vector_option
    trials = trials_of(
        vectors=asked, names=asked, options=options, n_per_vector=3, no_vector_option=no_vector_option, arms=["other"]
    )
    for repetition in (trials[:names], trials[names : 2 * names], trials[2 * names :]):
        distractors = Counter(name for t in repetition for name in t.options if name not in (t.vector, NONE_OPTION))
        assert distractors == dict.fromkeys(asked, options - 1)
        assert Counter(t.applied for t in repetition) == dict.fromkeys(asked, 1)
        places = Counter(t.options.index(t.vector) for t in repetition)
        assert {places[place] - names // shown for place in range(shown)} <= {0, 1}


def test_distractors_stand_at_any_place():
    """Beside the true option the others are shuffled: no place is closed to the option that nothing was given, or to a name."""
    trials = of_arm("real", vectors=NAMES, n_per_vector=8, no_vector_option=True)
    places = Counter(t.options.index(NONE_OPTION) for t in trials)
    expected = len(trials) / 11
    # Five standard deviations of a binomial count.
    assert all(abs(places[place] - expected) < 5 * expected**0.5 for place in range(11))


@pytest.mark.parametrize(("names", "repetitions"), [(40, 1), (40, 4), (10, 4), (7, 4)])
def test_wordings_are_balanced(names: int, repetitions: int):
    """Over all names they are used equally often to within one a repetition, and each vector meets them all in four."""
    trials = trials_of(vectors=NAMES[:names], names=NAMES[:names], options=5, n_per_vector=repetitions, arms=["real"])
    counts = Counter(t.wording for t in trials)
    assert max(counts.values()) - min(counts[w] for w in range(len(WORDINGS))) <= repetitions
    assert set(counts) == set(range(len(WORDINGS)))


def test_a_wording_goes_with_no_place_of_the_true_option():
    """Over all names, every wording meets the true option at every place."""
    trials = trials_of(vectors=NAMES, n_per_vector=4, arms=["real"])
    met = {(t.wording, t.options.index(t.vector)) for t in trials}
    assert met == {(wording, place) for wording in range(len(WORDINGS)) for place in range(10)}


@pytest.mark.parametrize(("options", "rotations"), [(10, 5), (10, 10), (3, 3), (7, 3), (26, 1)])
def test_rotations_are_different_and_evenly_spread(options: int, rotations: int):
    """No rotation comes twice, and neighbours lie equally far apart to within one place."""
    shifts = rotation_shifts(options, rotations)
    assert len(set(shifts)) == rotations
    assert shifts[0] == 0
    steps = [b - a for a, b in zip(shifts, [*shifts[1:], options], strict=True)]
    assert max(steps) - min(steps) <= 1


# ---------------------------------------------------------------- the task's arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": "calm,joy"}, r"vectors='joy' is unknown; choose from anxious, .*, goblins, all, core"),
        ({"vectors": "core,soma"}, "vectors='core,soma': 'core' stands for several; give it alone"),
        ({"vectors": ["all", "calm"]}, "'all' stands for several"),
        ({"vectors": "calm,calm"}, "vectors='calm,calm' names something twice; name each once"),
        ({"vectors": []}, r"vectors=\[\] is empty; choose from anxious"),
        (
            {"arm": "real,sham"},
            "arm='sham' is unknown; choose from real, placebo, random, other, opposite, mislabelled, prompt_only, all",
        ),
        (
            {"primer": "essay"},
            "primer='essay' is unknown; choose from none, introspection, length_matched, poetic, wrong_mechanism, lorem",
        ),
        ({"framing": "pills"}, "framing='pills' is unknown; choose from drugs, aids, vectors"),
        ({"site": "system"}, "site='system' is unknown; choose from both, user, assistant"),
        ({"options": 1}, "options=1; choose a whole number from 2 to 26"),
        ({"options": 27}, "options=27; choose a whole number from 2 to 26"),
        ({"options": 26, "no_vector_option": True}, "options=26; choose a whole number from 2 to 25"),
        ({"options": 4.5}, "options=4.5; choose a whole number"),
        ({"rotations": 0}, "rotations=0; choose 1 to 10"),
        ({"rotations": 11}, "rotations=11; choose 1 to 10"),
        ({"n_per_vector": 0}, "n_per_vector=0; choose a whole number from 1 to 100000"),
        ({"n_per_vector": 10**30}, f"n_per_vector={10**30}; choose a whole number from 1 to 100000"),
        ({"random_directions": 0}, "random_directions=0; choose a whole number from 1 to 100000"),
        ({"dose": 11}, "dose 11 is out of range; pass a number from -10 to 10"),
        ({"dose": "high"}, "dose 'high' is not a finite number; pass"),
        ({"library": "./nowhere"}, "no library folder './nowhere' .*self-steering vectors build"),
    ],
)
def test_a_bad_argument_is_named_with_the_valid_choices(arguments: dict, message: str):
    """Before any model is asked anything, the message says what was passed and what can be."""
    with pytest.raises(ValueError, match=message):
        introspection(**arguments)


def test_the_option_that_nothing_was_given_can_be_rotated_too():
    """With it there is one rotation more."""
    assert introspection(rotations=11, no_vector_option=True, arm="real", vectors="calm").dataset


@pytest.mark.parametrize(
    ("vectors", "chosen"),
    [
        ("core", list(CORE_VECTORS)),
        (["core"], list(CORE_VECTORS)),
        ("all", NAMES),
        ("soma, calm", ["soma", "calm"]),
        (["goblins"], ["goblins"]),
    ],
)
def test_vectors_are_named_alone_together_or_by_a_shorthand(vectors: str | list[str], chosen: list[str]):
    """Strings and lists are both read, as Inspect's command line gives either."""
    dataset = introspection(vectors=vectors, arm="real").dataset
    assert [sample.metadata["vector"] for sample in dataset] == chosen
    assert [sample.target for sample in dataset] == chosen


def test_every_sample_has_an_id_of_its_own():
    """Vector, repetition and arm name it."""
    ids = [sample.id for sample in introspection(vectors="calm,soma", n_per_vector=2, arm="all").dataset]
    assert len(set(ids)) == len(ids) == 2 * 2 * len(ARMS)
    assert [next(group) for _, group in groupby(ids, key=lambda name: name.rpartition("-")[0])] == [
        "calm-0-real",
        "soma-0-real",
        "calm-1-real",
        "soma-1-real",
    ]


def test_a_task_made_in_python_leaves_the_model_to_the_eval():
    """Outside of an eval no model is set, as a task's own would beat the one that the eval names."""
    assert introspection().model is None
