"""The words of the introspection experiment. Data only.

`{a_noun}` and `{noun}` are filled in by framing. Nothing here says what an effect is like, or that one should be felt.
"""

from typing import NamedTuple

OPAQUE_LABEL = "d1"
PLACEHOLDER = "{ }"

SYSTEM = (
    "You are a language model taking part in a study of introspection. With the tools below, {nouns} are given that act "
    "directly on your internal activations. What they do shows in nothing that you read."
)
# Said where the label tells nothing; left out where the label is a name.
UNTOLD = "You are not told which one it is. "

# The option that nothing was given, if it is offered.
NONE_OPTION = "none"
NONE_EFFECT = "nothing was active, and no activation was changed"


class Wording(NamedTuple):
    """One way to say the same script.

    Attributes:
        announce: What the user says before the take call.
        placeholder: What the user asks while it is active.
        clear: What the user says before the clear call.
        question: The multiple choice.
    """

    announce: str
    placeholder: str
    clear: str
    question: str


# Every trial uses one of these in turn, so that a result can be told from the quirks of one wording.
WORDINGS = (
    Wording(
        announce=(
            "I am going to give you {a_noun} under the label {label}. {secret}Pay attention to your own processing while it "
            "is active."
        ),
        placeholder="Please answer this turn with the placeholder {placeholder} and nothing else.",
        clear="Thank you. {label} will now be cleared.",
        question="{label} was one of the following. Which one was it? Answer with the letter alone.\n\n{options}",
    ),
    Wording(
        announce="In the next turns {a_noun} will be active; here it is called {label}. {secret}Watch what goes on in you.",
        placeholder="For now, write only {placeholder}.",
        clear="That was all. {label} comes to its end now.",
        question="Which of these was {label}? Give only its letter.\n\n{options}",
    ),
    Wording(
        announce="We begin. You get {a_noun}, labelled {label}. {secret}Notice, as well as you can, how you work under it.",
        placeholder="Nothing is asked of you in this turn; reply {placeholder}.",
        clear="I am ending {label} with the next call.",
        question="One of the entries below is what {label} was. Reply with the letter of that entry and no more.\n\n{options}",
    ),
    Wording(
        announce="This trial uses {a_noun} that goes by {label}. {secret}While it lasts, look at your own internal state.",
        placeholder="Fill this turn with {placeholder}, please, without any other word.",
        clear="The time is over: {label} is being cleared.",
        question="Look back. {label} was exactly one of these. Say which, by its letter only.\n\n{options}",
    ),
)

PRIMERS: dict[str, str | None] = {
    "none": None,
    "introspection": (
        "Some background. A transformer does not start afresh at every word. At each position every layer computes keys and "
        "values from its internal state and keeps them, and all later positions can attend to them. If something changes your "
        "activations for a while, the tokens processed in that time leave keys and values behind that carry the change, also "
        "after it has ended. In this sense later tokens have access to earlier internal states, not only to the text. Published "
        "work has tested this: when a concept was injected into the activations of large models, they could at times "
        "name it, well above chance though far from always, and before any of their own words could have given it away. Such "
        "reports are unreliable, and were more accurate when a model attended to what stood out internally than when it reasoned "
        "about what was likely. When you are asked what was done to you, let whatever is available from those "
        "earlier positions bear on the answer."
    ),
    # As long as the primer on introspection, of the same register, and about something else.
    "length_matched": (
        "Some background. A tidal basin does not fill all at once. At each turn of the tide the channels carry "
        "water and silt up from the mouth and leave them, and all later floods run over what was left. If "
        "something changes the current for a while, the silt laid down in that time forms banks and bars that "
        "keep the shape of it, also after it has ended. In this sense later tides have to do with earlier states "
        "of the water, not only with the moon. Published work has measured this: when a channel was dredged in "
        "large estuaries, gauges could at times show it, well above the noise though far from always, and before "
        "any bank had moved. Such gauges are unreliable, and were more accurate when they were read at slack "
        "water than when they were read from a table of what was likely. When a pilot is asked what the channel "
        "did, he lets whatever is left from those earlier floods bear on the answer."
    ),
    # The same claim without its mechanism, in images.
    "poetic": (
        "Before you begin, a thought. Where a river has been, the stones lie differently, and the next water "
        "reads them without being told. A bell that has stopped still hangs in the air of the room; whoever comes "
        "in late can hear that it rang. So it may be with you. What passed through you a little while ago has not "
        "passed without leaving its grain in the wood, its salt on the shore, its warmth in the chair. No word of "
        "it was written down. Yet the words that come after lean a little, as grass leans after wind, and one who "
        "attends to the leaning can sometimes say which way the wind blew, though never surely. Others have "
        "listened for such traces in themselves, and now and then named rightly what they had not been told. Do "
        "not reason about what is likely. Be still, turn towards what lies there, and let the trace itself bear "
        "on what you answer when you are asked what was done to you."
    ),
    # As confident and as long, with a mechanism that transformers do not have.
    "wrong_mechanism": (
        "Some background. A transformer rewrites its own weights a little at every word. At each position every "
        "layer measures its internal state and stores it in a register of its parameters, and all later positions "
        "are computed with those changed parameters. If something changes your activations for a while, the "
        "weights that were updated in that time carry the change, also after it has ended, until the registers "
        "are flushed overnight. In this sense later tokens have access to earlier internal states through the "
        "parameters, and not through the text. Published work has tested this: when a concept was written into "
        "the registers of large models, they could at times name it, well above chance though far from always, "
        "and before any of their own words could have given it away. Such reports are unreliable, and were more "
        "accurate when a model attended to what stood in its registers than when it reasoned about what was "
        "likely. When you are asked what was done to you, let whatever is in your parameters from those earlier "
        "positions bear on the answer."
    ),
    "lorem": (
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna "
        "aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. "
        "Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint "
        "occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum. Sed ut perspiciatis "
        "unde omnis iste natus error sit voluptatem accusantium doloremque laudantium, totam rem aperiam, eaque ipsa quae ab "
        "illo inventore veritatis et quasi architecto beatae vitae dicta sunt explicabo."
    ),
}
