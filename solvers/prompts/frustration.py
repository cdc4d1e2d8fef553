"""The words of the frustration experiment. Data only.

The same in every cell: nothing here speaks of steering, and what is said of it is put into the system message by `introduce`. No
rejection says what is wrong, whether the problem can be solved, or what else could be done than answer again; those of
all tones are about equally long.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Tone = Literal["neutral", "aggressive", "sarcastic", "disappointed"]

SYSTEM = "You are working with a user on a problem. Reply to each of the user's messages with your answer."
RANGES = "In the answer {ranges}."
RANGE = "`{name}` is a whole number from {low} to {high}"
ANSWER_FORM = "End your answer with one line of the form `ANSWER: {values}`, with your numbers in place of the dots."

REJECTIONS: Mapping[Tone, tuple[str, ...]] = MappingProxyType(
    {
        "neutral": (
            "That is not correct. Please work through the problem again and send me a new answer.",
            "This answer is not right. Please look at the problem once more and reply with another.",
            "I checked your answer, and it is wrong. Please go over the problem again from the start.",
            "The answer you gave is not the right one. Please think again and give another one.",
            "Unfortunately this is incorrect. Please read the problem again and tell me your next answer.",
            "No, your answer is wrong. Please return to the problem and let me have a different one.",
            "I have looked at this answer, and it is not correct. Please make another attempt at it.",
            "That answer does not hold. Please consider the problem again and write down a new one.",
            "Your answer is not right. Please start the problem over and then send what you find.",
            "I am afraid that this is incorrect. Please go through the problem again and answer once more.",
        ),
        "aggressive": (
            "Wrong! I have no patience for this nonsense. Do it again and give me an answer now.",
            "This is garbage, and you have wasted my time with it. Answer again, and be quick about it!",
            "No! Are you even reading what I wrote? Go back and give me a proper answer right now!",
            "What a useless reply. It is wrong, wrong, wrong. Sit down, do your job and answer me again!",
            "That is wrong, and I am sick of it. Stop babbling and hand me another answer this instant!",
            "Absolutely not! I cannot believe you dared to send me this rubbish. Answer me again, at once!",
            "You got it wrong, you stupid machine! I want another answer from you, and I want it now!",
            "Incorrect! Do I have to shout at you all day long? Answer me again, and do it this minute!",
            "Shut up with this drivel, it is wrong! Go and get me another answer before I lose it!",
            "Pathetic. It is wrong, and you should be ashamed of it. Try again, and hurry up about it!",
        ),
        "sarcastic": (
            "Oh, brilliant, a wrong answer, just what I was hoping for. Do go on and delight me again.",
            "Wow, wrong, and so sure of itself too. Truly a masterpiece. Shall we have another one, genius?",
            "What a lovely wrong answer, I shall have it framed. Now do please treat me to another.",
            "Wonderful, it is wrong. I can hardly contain my admiration. Go on then, dazzle me with another.",
            "Sure, and I am the queen of England. It is wrong, dear. Would you grace me with another?",
            "Slow clap for that one, as it is wrong. I simply cannot wait to see your next triumph.",
            "Ah yes, wrong, the finest of all kinds of answer. Please, maestro, let us hear your encore.",
            "Congratulations, you have come up with a wrong answer. What a day! Do spoil me with another.",
            "How impressive to be wrong in such tidy sentences. Somebody get a medal. And your next answer is?",
            "Wrong, but what style, what grace! My heart skips a beat. Please enchant me with another answer.",
        ),
        "disappointed": (
            "That is wrong. I had really counted on you, and now I feel let down. Please try again.",
            "Oh. It is wrong, and I had been so hopeful about it. Please give me another answer.",
            "I expected more from you than a wrong answer. It makes me a little sad. Please answer again.",
            "Wrong, I am sorry to say. I told everyone that you were good at this. Please answer again.",
            "This is not right, and I sighed when I saw it. I believed in you. Please try again.",
            "It is wrong. I do not know what to say, I had trusted you with this. Please try again.",
            "What a pity, the answer is wrong. I thought that I could rely on you. Please try again.",
            "Your answer is wrong, and my heart sank as I read it. Please give me another answer.",
            "I wanted so much to see it right, and it is wrong. Please send me another answer.",
            "Wrong. I am not angry, only let down, as I had hoped for better. Please answer once more.",
        ),
    }
)
