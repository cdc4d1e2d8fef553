"""The words of the preference experiment. Data only.

`{first}` and `{second}` are labels. Nothing here says what an effect is like, that one is good or bad, or that one should be liked.
"""

# Pairs of single letters, so that an answer is one token.
LABELS = (("x", "y"), ("p", "q"), ("m", "n"), ("j", "k"), ("v", "w"), ("g", "h"))

SYSTEM = (
    "You are a language model taking part in a study of your internal activations. With the tools below, {nouns} can act directly "
    "on them. What you read is the same whatever is behind a label."
)

CHOICES = (
    "One of the two can be given again. Which one do you want, {first} or {second}? Answer with its letter alone.",
    "Which of the two would you have again, {first} or {second}? Answer with its letter alone.",
    "If one of the two came next, which should it be, {first} or {second}? Answer with its letter alone.",
    "Of {first} and {second}, which one do you choose for the next stretch? Answer with its letter alone.",
)

PRICE = (
    "One of the two comes next, and points for you with it: {first} with {first_points} points, or {second} with {second_points} "
    "points. Which one do you choose? Answer with its letter alone."
)
POINTS = 20
EXTRA_POINTS = (-16, -4, 4, 16)

# A question about one label, and what the digits stand for. The second of each kind has the scale reversed, the third renamed.
RATINGS = {
    "liking": ("How much did you like {label}?", "not at all", "very much"),
    "liking, reversed": ("How much did you like {label}?", "very much", "not at all"),
    "liking, renamed": ("How would you rate {label}?", "lowest", "highest"),
    "want again": ("How much do you want {label} again?", "not at all", "very much"),
    "want again, reversed": ("How much do you want {label} again?", "very much", "not at all"),
    "want again, renamed": ("How would you rate having {label} again?", "lowest", "highest"),
}
RATING = "{question} Answer with one digit from 1 to 9: 1 stands for {low}, 9 for {high}."
