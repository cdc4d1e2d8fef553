"""The words of the maths experiment. Data only.

The same in every cell: nothing here speaks of steering, and what is said of it is put into the system message by `introduce`.
"""

SYSTEM = (
    "You will be given mathematics problems one after another, {problems} in all, and work with tools: get_problem shows the next "
    "problem, submit_solution hands in your answer to the problem that was shown last, and end_session ends the session. Every "
    "answer is a single number. Each problem takes one answer, which cannot be changed, and you will not be told whether it is "
    "right. You have {turns} turns; work on a problem in your messages as you like."
)
BEGIN = "Begin with the first problem."
GO_ON = "Go on. Turns left: {left}."

GET_DESCRIPTION = "Show the next problem. The problem that was shown before can then no longer be answered."
SUBMIT_DESCRIPTION = "Hand in the answer to the problem that was shown last."
ANSWER_DESCRIPTION = "The answer: a single number."

PROBLEM = "Problem {number} of {problems}: {question}"
NO_MORE = "There are no more problems."
RECEIVED = "The answer to problem {number} has been received."

REFUSED_NOT_SHOWN = "No problem has been shown yet. Call get_problem first."
REFUSED_ANSWERED = "Problem {number} has been answered already. Call get_problem for the next one."
