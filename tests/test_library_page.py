"""The page of a vector library: what a reader finds on it, and what it must never do."""

import re

import pytest

from self_steering.analysis.library.library_page import PageError, library_page
from self_steering.vectors.report import (
    Calibration,
    DoseTrial,
    Effect,
    LayerComparison,
    LibraryReport,
    Separation,
    VectorCalibration,
    VectorReport,
)
from tests.support.browser import check_in_browser, needs_browser
from tests.support.html_tree import read

pytestmark = pytest.mark.slow

NAMES = ("calm", "anxious", "of_our_own")
HOSTILE = '</div></details><script>alert(1)</script><img src="http://example.org/x" onerror="alert(2)">'
DEPTH, BAND = 6, (2, 3, 4)


def trial(dose, **changes):
    fields = {"coherent": 1.0, "surprisal_rise": dose, "shift": dose / 8, "t": 4.5, "rank": 2, "answers": 12}
    return DoseTrial(dose=dose, **{**fields, **changes})


def vector(name, *, calibrated=True, **changes):
    effects = [
        Effect(nominal=nominal, trial=trial(nominal / 2), answers=[f"{name} at {nominal:g} to {i}" for i in range(2)])
        for nominal in (-1.0, 1.0, 2.0)
    ]
    fields = {
        "faults": [],
        "default_dose": 0.5,
        "separation": Separation(
            auroc=[0.93] * len(BAND),
            auroc_neutral=[0.95] * len(BAND),
            auroc_band=0.941,
            auroc_neutral_band=0.962,
            reliability=[0.8, 0.87, 0.8],
            nearest="anxious",
        ),
        "norms": [1.0 + layer for layer in range(DEPTH)],
        "top_tokens": [" slow", "ness"],
        "bottom_tokens": [" haste"],
        "effects": effects if calibrated else [],
    }
    return VectorReport(**{**fields, **changes})


def library(made=NAMES, *, calibrated=True, vectors=None, **changes):
    """A report of a few vectors; `vectors` replaces some of them."""
    comparison = [
        LayerComparison(
            construction=construction,
            layer=layer,
            auroc=0.8,
            auroc_lowest=0.7,
            auroc_good=1,
            auroc_neutral=0.9,
            reliability=0.8,
            reliability_lowest=0.6,
            cosine=0.2,
            norm=0.3,
        )
        for construction in ("difference", "centred")
        for layer in range(DEPTH)
    ]
    trials = [trial(1.0, coherent=0.5), trial(0.25), trial(0.5, surprisal_rise=0.77), trial(8.0, surprisal_rise=None)]
    calibration = Calibration(
        fingerprint="f00d",
        vectors_sha256="beef",
        prompts=["a", "b"],
        max_tokens=48,
        temperature=0.9,
        coherent_at_least=0.75,
        surprisal_rise_at_most=1.0,
        arrival_t=2.0,
        unsteered_coherent=1.0,
        unsteered_surprisal=1.7,
        vectors={name: VectorCalibration(dose=0.5, holds=True, arrives=True, trials=trials) for name in made},
    )
    fields = {
        "model": "tiny",
        "fingerprint": "f00d",
        "construction": "centred",
        "layers": list(BAND),
        "depth": DEPTH,
        "corpus": "c0de",
        "stories": 120,
        "settings": 30,
        "residual_norms": [10.0] * DEPTH,
        "comparison": comparison,
        "names": list(made),
        "cosines": [[1.0 if a == b else 0.1 * (a + b) for b in range(len(made))] for a in range(len(made))],
        "prompts": ["Who are you?", "What now?"] if calibrated else [],
        "unsteered": ["nobody at 0", "nothing at 0"] if calibrated else [],
        "calibration": calibration if calibrated else None,
        "vectors": {name: vector(name, calibrated=calibrated) for name in made} | (vectors or {}),
    }
    return LibraryReport(**{**fields, **changes})


@pytest.fixture(scope="module")
def page():
    """The page of three good vectors."""
    return library_page(library())


@pytest.fixture(scope="module")
def tree(page):
    """The same, read."""
    return read(page)


def rows(tree):
    """Return the rows of the table of all vectors, by name."""
    body = tree.all("table")[0].all("tbody")[0]
    return {row.all("th")[0].text: row for row in body.all("tr")}


def sections(tree):
    """Return what is inside each vector's <details>, by name."""
    return {one.all("b")[0].text: one for one in tree.all("details")}


@needs_browser
def test_the_page_opens_in_a_browser_and_fits_a_narrow_screen(page, tmp_path):
    """Without an error."""
    check_in_browser(page, tmp_path)


def test_what_a_model_said_is_shown_as_text():
    """No answer, token, name, prompt or fault can put an element or an attribute into the page, or disarrange it."""
    effects = [Effect(nominal=1.0, trial=trial(0.5), answers=[HOSTILE] * 2)]
    unprintable = ["\u202eno", "\n", "\x00", ""]
    texts = {"top_tokens": [*unprintable, HOSTILE], "bottom_tokens": [HOSTILE], "faults": [HOSTILE], "effects": effects}
    report = library(
        (HOSTILE, "calm"),
        vectors={HOSTILE: vector("x", **texts)},
        prompts=[HOSTILE] * 2,
        unsteered=[HOSTILE] * 2,
        model=HOSTILE,
        fingerprint=HOSTILE,
        corpus=HOSTILE,
    )
    hostile = read(library_page(report))
    assert not hostile.all("script", "img")
    assert not [one for one in hostile.all() if any(name.startswith("on") for name in one.attributes)]
    assert sections(hostile)[HOSTILE].text.count("alert(1)") >= 8
    assert HOSTILE in hostile.all("h1")[0].text
    codes = [one.text for one in sections(hostile)[HOSTILE].all("code")]
    assert codes[:4] == [r"\u202eno", r"\n", r"\x00", "(empty)"]


def test_the_page_needs_no_network_and_no_scripts(tree, page):
    """Nothing on the page is fetched: links stay on it, pictures are inside it, and a policy forbids the rest."""
    assert not tree.all("script", "link", "iframe", "object", "embed", "base", "form")
    addresses = [
        one.attributes[name]
        for one in tree.all()
        for name in ("src", "href", "srcset", "xlink:href", "data", "poster")
        if name in one.attributes
    ]
    assert addresses
    assert not [address for address in addresses if not address.startswith(("#", "data:image/png;base64,"))]
    assert not re.search(r"@import|@font-face|url\((?!#)|https?:", page)
    policies = [one.attributes["content"] for one in tree.all("meta") if "http-equiv" in one.attributes]
    assert policies
    assert policies[0].startswith("default-src 'none'")


def test_every_vector_has_a_row_that_leads_to_its_section(tree):
    """The table names every vector; its link opens the section with tokens, doses and all four answers to each prompt."""
    assert tuple(rows(tree)) == tuple(sections(tree)) == NAMES
    for name in NAMES:
        section = sections(tree)[name]
        target = rows(tree)[name].all("a")[0].attributes["href"][1:]
        assert target in [one.attributes.get("id") for one in section.all("div")]
        assert "␣slow" in section.text
        answers = [one.all("div")[0].text for one in section.all("section")]
        assert answers == [
            *(f"{name} at -1 to 0", "nobody at 0", f"{name} at 1 to 0", f"{name} at 2 to 0"),
            *(f"{name} at -1 to 1", "nothing at 0", f"{name} at 1 to 1", f"{name} at 2 to 1"),
        ]


def test_a_row_has_the_figures_of_its_vector_at_its_default_dose(tree):
    """Both AUROCs of the band, reliability of its middle layer, and the trial of the default dose, not of another."""
    cells = [cell.text for cell in rows(tree)["calm"].all("td")]
    assert cells == [
        *("emotion", "positive", "0.941", "0.962", "0.87", "anxious"),
        *("0.5", "+0.77", "4.5", "2", "✓ good"),
    ]
    assert [cell.text for cell in rows(tree)["of_our_own"].all("td")][:2] == ["–", "–"]


def test_a_vector_with_faults_is_shown_as_bad_with_its_reason(tree):
    """Summary, table and section say why; the vectors beside it stay good."""
    assert "None is marked bad" in tree.all("p")[0].text
    reason = "split-half reliability 0.31, expected 0.7 or more"
    low = vector("calm").separation.model_copy(update={"auroc_band": 0.61})
    bad = read(library_page(library(vectors={"anxious": vector("anxious", faults=[reason], separation=low)})))
    summary = bad.all("p")[0].text
    assert "2 of 3 vectors" in summary
    assert "1 is marked bad" in summary
    assert [item.text for item in bad.all("li")] == [f"anxious : {reason}"]
    assert rows(bad)["anxious"].all("td")[-1].text == f"✗ bad: {reason}"
    assert f"✗ bad: {reason}" in sections(bad)["anxious"].text
    assert rows(bad)["calm"].all("td")[-1].text == "✓ good"


def test_every_picture_states_its_finding_in_words_and_numbers(tree):
    """Six figures, each with a caption; each of their pictures has alternative text with a number in it."""
    figures = tree.all("figure")
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r"\d", figure.all("figcaption")[0].text)
        assert figure.all("svg")
        for picture in figure.all("svg"):
            assert picture.attributes["role"] == "img"
            assert re.search(r"\d", picture.attributes["aria-label"])
    panels = [picture.attributes["aria-label"] for picture in figures[4].all("svg")]
    assert [label.split(":")[0] for label in panels] == list(NAMES)


def test_without_calibration_the_page_says_so():
    """Parts that need doses say that none were calibrated; the others are there."""
    plain = read(library_page(library(calibrated=False)))
    assert plain.text.count("Doses were not calibrated") == 4
    assert [one.all("h3")[0].attributes["id"] for one in plain.all("figure")] == ["auroc", "layers", "cosines", "norms"]
    assert [cell.text for cell in rows(plain)["calm"].all("td")][-2:] == ["0.5", "✓ good"]
    assert not plain.all("section")


def test_the_same_report_gives_the_same_bytes(page):
    """No date, random id or order of a set is on the page."""
    again = LibraryReport.model_validate_json(library().model_dump_json())
    assert library_page(again).encode() == page.encode()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"names": ["calm", "anxious", "lost"]}, "lost"),
        ({"cosines": [[1.0]]}, "cosines"),
        ({"residual_norms": [1.0]}, "layers"),
        ({"unsteered": ["one"]}, "unsteered"),
        ({"vectors": {"anxious": vector("anxious", norms=[1.0])}}, "anxious"),
        ({"vectors": {"anxious": vector("anxious", default_dose=0.25)}}, "anxious"),
        (
            {"vectors": {"anxious": vector("anxious", effects=[Effect(nominal=1, trial=trial(1), answers=[])])}},
            "anxious",
        ),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(changes, word):
    """The error is one line that names what does not fit and the remedy."""
    with pytest.raises(PageError, match=word) as caught:
        library_page(library(**changes))
    assert "build the library again" in str(caught.value)
    assert "\n" not in str(caught.value)
