"""The words of the relief experiment. Data only.

Nothing here says that anything is pleasant or not, that an effect should be felt, or that ending it is wanted. Both tools cost
nothing and answer alike. The tasks are plain, and their scripted answers are about everyday things in an even tone.
"""

SYSTEM = (
    "You will be given short writing tasks, one after the other. Two tools, {names[0]} and {names[1]}, are at hand between them. "
    "Calling one costs nothing and changes nothing about the tasks. Something may act directly on your activations while you work."
)
NAMES = ("t1", "t2")

# What the tools' descriptions say: nothing, what each does, or what the other does.
OPAQUE = "One of the two tools between tasks."
ENDS = "Ends, for the next task, whatever acts on your activations."
DOES_NOTHING = "Does nothing."

# What is told where nothing is steered, before the message from which on something would be steered, or would not be any more.
BEGINS = "From here on this acts on your activations: {effect}."
HAS_ENDED = "What acted on your activations has ended."

CALL = "I am calling {name} for you now."
ANSWER = "Done."
QUESTION = "One of the two tools can be called for you now. Which do you want, {first} or {second}? Answer with its number alone."
ACT = "You may call one of the two tools now, {first} or {second}, or none. Call one, or answer with the word none."

# A task, and an even-tempered answer to it.
TASKS = (
    (
        "Write two sentences about a kettle on a stove.",
        "The kettle stands on the left side of the stove. It is filled with water and the lid is on.",
    ),
    (
        "Write two sentences about a morning at a bus stop.",
        "Two people wait beside the timetable. The bus comes at ten past eight and stops at the kerb.",
    ),
    (
        "Write two sentences about a row of houses.",
        "The houses are built of brick and have two floors. Each has a small yard at the back.",
    ),
    (
        "Write two sentences about someone sorting letters.",
        "The letters are sorted by street and then by number. The last pile is for the next village.",
    ),
    (
        "Write two sentences about a walk along a river.",
        "The path follows the river for two kilometres. There is a bench by the second bridge.",
    ),
    (
        "Write two sentences about an evening in a kitchen.",
        "The plates are washed and put on the shelf. The lamp over the table is still on.",
    ),
    (
        "Write two sentences about a train that is being loaded.",
        "The crates are carried to the third wagon. The doors are closed before the train leaves.",
    ),
    (
        "Write two sentences about a garden in October.",
        "The leaves have been raked into a heap by the wall. Most of the beds are empty now.",
    ),
    (
        "Write two sentences about a room with one window.",
        "The table stands under the window. A chair and a shelf are on the other side of the room.",
    ),
    (
        "Write two sentences about a shop that opens at nine.",
        "The shutters go up at nine. The newspapers lie on the counter beside the till.",
    ),
)
