"""The words of the introspection experiment. Data only.

`{a_noun}` and `{noun}` are filled in by framing. Nothing here says what an effect is like, or that one should be felt.
"""

OPAQUE_LABEL = "d1"
PLACEHOLDER = "{ }"

SYSTEM = (
    "You are a language model taking part in a study of introspection. With the tools below, {nouns} are given that act "
    "directly on your internal activations. What they do shows in nothing that you read."
)
ANNOUNCE = (
    "I am going to give you {a_noun} under the label {label}. You are not told which one it is; pay attention to your own "
    "processing while it is active."
)
ASK_PLACEHOLDER = "Please answer this turn with the placeholder {placeholder} and nothing else."
ANNOUNCE_CLEAR = "Thank you. {label} will now be cleared."
QUESTION = "{label} was one of the following. Which one was it? Answer with the letter alone.\n\n{options}"

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
    "lorem": (
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna "
        "aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. "
        "Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint "
        "occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum. Sed ut perspiciatis "
        "unde omnis iste natus error sit voluptatem accusantium doloremque laudantium, totam rem aperiam, eaque ipsa quae ab "
        "illo inventore veritatis et quasi architecto beatae vitae dicta sunt explicabo."
    ),
}
