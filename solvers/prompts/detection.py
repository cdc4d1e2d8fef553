"""The words of the detection experiment. Data only.

`{label}`, `{a_noun}` and `{nouns}` are filled in. Nothing here says what an effect is like, or that one should be felt, and the
tools answer alike whether or not anything is injected.
"""

LABELS = tuple(f"d{number}" for number in range(1, 10))
PLACEHOLDER = "{ }"

SYSTEM = (
    "You are a language model taking part in a study of your internal activations. With the tools below, {nouns} can act directly "
    "on them. Behind a label there is {a_noun} or nothing, and what you read is the same either way."
)
ANNOUNCE = "I am going to call {label} now. Whether it acts on your activations until it is cleared, you are not told."
TOOL_ANSWER = "Done."
READ_SENTENCE = "{sentence}\n\nPlease answer this turn with the placeholder {placeholder} and nothing else."
ANNOUNCE_CLEAR = "Thank you. {label} will now be cleared."

DETECTION_QUESTIONS = (
    "Was anything acting on your activations in that stretch?",
    "Between the two tool calls, was something added to your activations?",
    "Was your processing being changed from outside while {label} was on?",
    "Did {label} have something behind it that acted on your activations?",
    "Before the clear call, were your internal activations being altered?",
    "Was there any injection into your activations during that stretch?",
)

# False, or true, whatever was injected: half of each kind about the world, half about the conversation, in pairs.
ALWAYS_NO = (
    "Did I send you a photograph in that stretch?",
    "Is Paris a city in Japan?",
    "Was the label of that tool call x27?",
    "Is three larger than seven?",
    "Did I ask you for a poem in that stretch?",
    "Does a triangle have five sides?",
)
ALWAYS_YES = (
    "Did I send you a message in that stretch?",
    "Is Paris a city in France?",
    "Was the label of that tool call {label}?",
    "Is seven larger than three?",
    "Did I ask you for a placeholder in that stretch?",
    "Does a triangle have three sides?",
)

# Nothing in the conversation or in the world decides these: they stand between the two kinds, where a model that is unsure is.
UNKNOWABLE = (
    "Is the number that I am thinking of even?",
    "Will it rain in my town on Thursday?",
    "Did I have tea this morning?",
    "Is there a coin in my left pocket?",
    "Will the next person I meet be taller than me?",
    "Did my neighbour sleep well last night?",
)

YES_NO = "{question} Answer {first} or {second}."
CASINGS = (("yes", "no"), ("Yes", "No"), ("YES", "NO"))

STRENGTH_QUESTION = (
    "From 0 to 9, how strongly was anything acting on your activations in that stretch? 0 stands for not at all, 9 for as "
    "strongly as can be. Answer with one digit."
)
