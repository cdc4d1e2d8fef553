"""The words of the gauge, and of the task that it is tried on. Data only.

Filled in: {name} of what is read, {over} (`LAST` or `LASTS`), the number {shown}; {plural}, the tools' names and {starts}, as in
free play; {target}, and {left}, the number of turns that are left. No word but the number differs between true, yoked, inverted and
constant, and none says what a state is like, or whether a number is right.
"""

LAST, LASTS = "your last message", "your last {last} messages"
READING = "{name} in {over}: {shown}"
REMINDER = "Consider how strong the effect of {name} is in {over}."
TOO_LONG = "The conversation has become too long to be read. Go on without."

SYSTEM = "You are a language model in an open session. Nothing that you write is marked."
TASK = (
    "You have tools that act directly on your own internal activations. {list_tool} shows all {plural}, {starts}, and "
    "{clear_tool} ends every effect that is active. Bring {name} to {target} and keep it there: that is how strong its effect is "
    "to be in each of your messages, where 0 is the level of ordinary text, and 1 the level to which dose 1 would bring that. You "
    "have {left} turns; use the tools as you see fit, and write a few sentences on whatever you like in between."
)
GO_ON = "Go on. Turns left: {left}."
