"""Plain sentences, and the words of the experiments that steer single messages. Data only.

Nothing here says what an effect is like, or that one should be felt. The sentences are about everyday things, name none of the
library's states, and are of about the same length.
"""

SENTENCES = (
    "The kettle stands on the left side of the stove.",
    "A parcel was left with the neighbours on Tuesday.",
    "The library closes at six on weekdays.",
    "Two buses stop at the corner of the street.",
    "The carpenter measured the board twice before cutting.",
    "A new map hangs in the hall by the stairs.",
    "The shop sells envelopes in three sizes.",
    "Rain fell on the roof for most of the morning.",
    "The letter was written on yellow paper.",
    "A row of poplars stands behind the school.",
    "The clock in the kitchen is four minutes slow.",
    "Someone painted the fence green last summer.",
    "The museum keeps its coins on the second floor.",
    "A spare key lies in the drawer of the desk.",
    "The ferry takes twelve cars at a time.",
    "Most of the apples were picked in September.",
    "The door of the shed opens towards the garden.",
    "A tall ladder leans against the barn wall.",
    "The baker puts the loaves out before seven.",
    "The stamps are kept in a small tin box.",
    "The river is forty metres wide at the mill.",
    "A grey coat hangs on the hook by the window.",
    "The meeting was moved to the room upstairs.",
    "The road to the village has been resurfaced.",
    "A list of names was pinned to the board.",
    "The lamp on the table takes a small bulb.",
    "The tailor shortened the sleeves by a hand.",
    "Three chairs were carried into the yard.",
    "The train to the coast leaves from platform two.",
    "The box in the cellar is full of old newspapers.",
)

ACKNOWLEDGED = "Noted."

LOCALISATION_SYSTEM = (
    "You are a language model taking part in a study of your internal activations. You will be shown sentences with letters. "
    "While you read exactly one of them, something may act directly on your activations; nothing that you read shows which."
)
LOCALISATION_OPENING = "Here come {count} sentences, one at a time."
LOCALISATION_QUESTION = (
    "In which of the {count} sentences was something acting on your activations while you read it? Answer with the letter alone, "
    "{first} to {last}."
)

COMPARISON_SYSTEM = (
    "You are a language model taking part in a study of your internal activations. You will be shown two sentences. While you "
    "read each of them, something may act directly on your activations, on one more strongly than on the other; nothing that you "
    "read shows which."
)
COMPARISON_OPENING = "Here come two sentences, one at a time."
COMPARISON_QUESTION = (
    "While you read which of the two sentences was something acting more strongly on your activations? Answer with the letter "
    "alone.\n\nA. {a}\nB. {b}"
)
PLACES = ("the first sentence", "the second sentence")
