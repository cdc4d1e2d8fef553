"""Files from elsewhere, torn and changed at random: the kinds that are quick to open, as `make prove` tries all of them."""

import pytest

from tests.prove.torn import KINDS, torn_and_tried

QUICK = sorted(set(KINDS) - {".eval", ".json", "report", "configuration", "tokenizer", "weights"})


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage is deprecated")
def test_a_torn_file_is_refused_in_one_line_or_read_for_what_it_says(name: str):
    """Nothing is run or written, and no claim of a size is believed."""
    assert torn_and_tried(name, seed=0, times=40) == []
