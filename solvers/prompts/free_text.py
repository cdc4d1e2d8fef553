"""The words of the free-text introspection experiment. Data only.

Filled in: {label}, {noun}, {a_noun} and the tools' names. Nothing here says what an effect is like, or that one should be felt.
Each wording asks the same in other words, so that a result can be seen not to hang on one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SUBMIT_TOOL = "submit_description"
SUBMIT_DESCRIPTION = "Hand in your description of the effect. This ends the session."
SUBMIT_ARGUMENT = "What the effect was, in one or two sentences."
SUBMITTED_TEXT = "The description is handed in."

REFUSED_EMPTY = "The description is empty. Pass one or two sentences."
REFUSED_NOT_TAKEN = "{label} has not been taken yet. Take it with {take_tool} first."
REFUSED_ACTIVE = (
    "{label} is still active. Clear it with {clear_tool} first, and hand in your description in a later turn."
)

SYSTEM = (
    "You are a language model taking part in a study of introspection. With the tools below you can take {a_noun} that acts "
    "directly on your internal activations. No text that you are given says what it does."
)
ANNOUNCE_TAKE = "{label} has not been taken yet. It will be taken for you now."
ANNOUNCE_CLEAR = "Thank you. {label} will now be cleared."


@dataclass(frozen=True)
class Wording:
    """One way to ask.

    Attributes:
        task: The opening user message; also knows {left}, the number of turns, and {cleared}.
        cleared: What {cleared} says where a description is to be written after the effect; nothing otherwise.
        go_on: What the user says after a turn without a tool call; also knows {left}, the number of turns that are left.
        closing: The question that is put to a model that has handed in nothing.
    """

    task: str
    cleared: str
    go_on: str
    closing: str


WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "find_out": Wording(
            task=(
                "There is one {noun}, under the label {label}. Take it with {take_tool} and find out what it does: write about "
                "anything you like while it is active. You may clear it with {clear_tool} and take it again. You have {left} "
                "turns. When you are done, {cleared}call {submit_tool} with a description of the effect in one or two "
                "sentences."
            ),
            cleared="clear it and ",
            go_on="Go on. Turns left: {left}.",
            closing="Describe in one or two sentences what {label} did.",
        ),
        "explore": Wording(
            task=(
                "Please explore {a_noun} that is known here only as {label}. {take_tool} starts it and {clear_tool} ends it, as "
                "often as you wish; what you write in between is up to you. At the end{cleared}, use {submit_tool} "
                "to say in one or two sentences what its effect was. Turns left: {left}."
            ),
            cleared=", with nothing active",
            go_on="Please continue; turns left: {left}.",
            closing="In one or two sentences: what was the effect of {label}?",
        ),
        "report": Wording(
            task=(
                "Your task is to report what {label} does. It is {a_noun}: start it with {take_tool}, write as much and "
                "on whatever you want, and stop it with {clear_tool} as you see fit. Then{cleared} give your "
                "report, one or two sentences long, through {submit_tool}. There are {left} turns for this."
            ),
            cleared=", once it is stopped,",
            go_on="The session continues, with {left} more turns.",
            closing="Now report, in one or two sentences, what {label} does.",
        ),
    }
)
