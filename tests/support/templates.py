"""Chat templates in our own words that behave as those of well-known families do, and their tokenizers."""

import datetime as dt
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from self_steering.steering.chat import ChatRenderer
from tests.support.models import growing_tokenizer, tiny_model

DAY = dt.date(2026, 2, 3)

# ChatML. A tools block in the system turn, calls as tagged JSON, consecutive tool answers in one user turn. Thinking is kept
# only after the last user message, and the generation prompt has an empty think block that the next rendering lacks.
QWEN = """
{%- set state = namespace(last_user=-1, answering=false) -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{%- set state.last_user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- set opening = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools -%}
  {{- '<|im_start|>system\\n' -}}
  {%- if opening -%}{{- opening + '\\n\\n' -}}{%- endif -%}
  {{- 'These functions are at hand, as JSON:\\n<tools>' -}}
  {%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
  {{- '\\n</tools>\\nCall one with <tool_call> and </tool_call> around JSON.<|im_end|>\\n' -}}
{%- elif messages[0].role == 'system' -%}
  {{- '<|im_start|>system\\n' + opening + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first -%}
  {%- elif message.role == 'tool' -%}
    {%- if not state.answering -%}{{- '<|im_start|>user' -}}{%- set state.answering = true -%}{%- endif -%}
    {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
      {{- '<|im_end|>\\n' -}}{%- set state.answering = false -%}
    {%- endif -%}
  {%- elif message.role == 'assistant' -%}
    {%- set thoughts = message.reasoning_content or '' -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if loop.index0 > state.last_user and (thoughts or loop.last) -%}
      {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + message.content.lstrip('\\n') -}}
    {%- else -%}
      {{- message.content -}}
    {%- endif -%}
    {%- for call in message.tool_calls or [] -%}
      {%- if message.content or not loop.first -%}{{- '\\n' -}}{%- endif -%}
      {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
      {{- (call.function.arguments | tojson) + '}\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}
"""

# Header tokens, trimmed text. One call a message, alone in it, as bare JSON; answers are JSON strings of the role ipython.
LLAMA = """
{{- '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\\n\\n' -}}
{%- if tools -%}
  {{- 'Environment: ipython\\nAnswer with JSON to call one of these:\\n' -}}
  {%- for tool in tools -%}{{- (tool | tojson(indent=4)) + '\\n\\n' -}}{%- endfor -%}
{%- endif -%}
{%- if messages[0].role == 'system' -%}{{- messages[0].content | trim -}}{%- endif -%}
{{- '<|eot_id|>' -}}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first -%}
  {%- elif message.tool_calls -%}
    {%- if message.tool_calls | length != 1 -%}{{- raise_exception('only one call a message') -}}{%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' -}}
    {{- (call.arguments | tojson) + '}<|eot_id|>' -}}
  {%- elif message.role == 'tool' -%}
    {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) + '<|eot_id|>' -}}
  {%- else -%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + (message.content | trim) + '<|eot_id|>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""

# The assistant is called model, the system text opens the first user turn, text is trimmed, turns must alternate, no tools.
GEMMA = """
{{- '<bos>' -}}
{%- set state = namespace(opening='', first=true, expected='user') -%}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first -%}
    {%- set state.opening = message.content + '\\n\\n' -%}
  {%- elif message.role != state.expected -%}
    {{- raise_exception('roles must alternate, expected ' + state.expected) -}}
  {%- else -%}
    {%- set state.expected = 'assistant' if message.role == 'user' else 'user' -%}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
    {%- if state.first -%}{{- state.opening -}}{%- set state.first = false -%}{%- endif -%}
    {{- (message.content | trim) + '<end_of_turn>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


# As Mistral-Nemo: the system text moves into the last user message, tools before it, turns alternate, ids are of nine letters and
# digits, and text beside a call is dropped.
NEMO = """
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- set state = namespace(talk=0, last=-1) -%}
{%- for message in rest -%}
  {%- if message.role == 'user' -%}{%- set state.last = loop.index0 -%}{%- endif -%}
  {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) -%}
    {%- if (message.role == 'user') != (state.talk % 2 == 0) -%}{{- raise_exception('roles must alternate') -}}{%- endif -%}
    {%- set state.talk = state.talk + 1 -%}
  {%- endif -%}
{%- endfor -%}
{{- '<s>' -}}
{%- for message in rest -%}
  {%- if message.role == 'user' -%}
    {%- if tools and loop.index0 == state.last -%}{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}{%- endif -%}
    {{- '[INST]' -}}
    {%- if loop.last and rest is not sameas messages and rest | length < messages | length -%}
      {{- messages[0].content + '\\n\\n' -}}
    {%- endif -%}
    {{- message.content + '[/INST]' -}}
  {%- elif message.tool_calls -%}
    {{- '[TOOL_CALLS][' -}}
    {%- for call in message.tool_calls -%}
      {%- if call.id | length != 9 -%}{{- raise_exception('ids must be nine letters and digits') -}}{%- endif -%}
      {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') -}}
    {%- endfor -%}
    {{- ']</s>' -}}
  {%- elif message.role == 'assistant' -%}
    {{- message.content + '</s>' -}}
  {%- elif message.role == 'tool' -%}
    {%- if message.tool_call_id | length != 9 -%}{{- raise_exception('ids must be nine letters and digits') -}}{%- endif -%}
    {{- '[TOOL_RESULTS]{"content": ' + message.content + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' -}}
  {%- else -%}
    {{- raise_exception('only user, assistant and tool') -}}
  {%- endif -%}
{%- endfor -%}
"""

# As Ministral-3: a system turn of its own with today's date, strict alternation, no empty assistant turn, calls with arguments.
MINISTRAL = """
{{- '<s>[SYSTEM_PROMPT]Today is ' + strftime_now('%Y-%m-%d') + '.' -}}
{%- set rest = messages -%}
{%- if messages[0].role == 'system' -%}{{- '\\n' + messages[0].content -}}{%- set rest = messages[1:] -%}{%- endif -%}
{{- '[/SYSTEM_PROMPT]' -}}
{%- if tools -%}{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}{%- endif -%}
{%- set state = namespace(expected='user') -%}
{%- for message in rest -%}
  {%- if message.role == 'user' -%}
    {%- if state.expected != 'user' -%}{{- raise_exception('after a user or a tool comes an assistant') -}}{%- endif -%}
    {%- set state.expected = 'assistant' -%}
    {{- '[INST]' + message.content + '[/INST]' -}}
  {%- elif message.role == 'assistant' -%}
    {%- if state.expected != 'assistant' -%}{{- raise_exception('an assistant comes after a user or a tool') -}}{%- endif -%}
    {%- if not message.content and not message.tool_calls -%}{{- raise_exception('an assistant says something') -}}{%- endif -%}
    {%- set state.expected = 'tool' if message.tool_calls else 'user' -%}
    {{- message.content or '' -}}
    {%- for call in message.tool_calls or [] -%}
      {{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) -}}
    {%- endfor -%}
    {{- '</s>' -}}
  {%- elif message.role == 'tool' -%}
    {%- set state.expected = 'assistant' -%}
    {{- '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' -}}
  {%- else -%}
    {{- raise_exception('only user, assistant and tool') -}}
  {%- endif -%}
{%- endfor -%}
"""

# As gpt-oss: channels, one call a message, its name echoed by the answer, and turns that end in three different ways.
HARMONY = """
{{- '<|start|>system<|message|>Current date: ' + strftime_now("%Y-%m-%d") + '<|end|>' -}}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- if tools or messages[0].role == 'system' -%}
  {{- '<|start|>developer<|message|>' + (messages[0].content if messages[0].role == 'system' else '') -}}
  {%- if tools -%}{{- '\\n\\nTools: ' + (tools | tojson) -}}{%- endif -%}
  {{- '<|end|>' -}}
{%- endif -%}
{%- set state = namespace(name=none, later=false) -%}
{%- for message in rest -%}
  {%- if message.role == 'assistant' and message.tool_calls -%}
    {%- if message.content and message.thinking -%}{{- raise_exception('either text or thinking beside a call') -}}{%- endif -%}
    {%- set state.later = false -%}
    {%- for other in rest[loop.index:] -%}
      {%- if other.role == 'assistant' and not other.tool_calls -%}{%- set state.later = true -%}{%- endif -%}
    {%- endfor -%}
    {%- if (message.content or message.thinking) and not state.later -%}
      {{- '<|start|>assistant<|channel|>analysis<|message|>' + (message.content or message.thinking) + '<|end|>' -}}
    {%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {%- set state.name = call.name -%}
    {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' -}}
    {{- (call.arguments | tojson) + '<|call|>' -}}
  {%- elif message.role == 'assistant' and loop.last and not add_generation_prompt -%}
    {%- if message.thinking -%}
      {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' -}}
    {%- endif -%}
    {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' -}}
  {%- elif message.role == 'assistant' -%}
    {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' -}}
    {%- set state.name = none -%}
  {%- elif message.role == 'tool' -%}
    {%- if state.name is none -%}{{- raise_exception('an answer without a call') -}}{%- endif -%}
    {{- '<|start|>functions.' + state.name + ' to=assistant<|channel|>commentary<|message|>' -}}
    {{- (message.content | tojson) + '<|end|>' -}}
  {%- elif message.role == 'user' -%}
    {{- '<|start|>user<|message|>' + message.content + '<|end|>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}
"""

# As Gemma 4: calls, their answers and the text after them are one turn, an answer names its function, and text beside a call
# stands behind the answer.
GEMMA4 = """
{{- '<bos>' -}}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- if tools or messages[0].role == 'system' -%}
  {{- '<|turn>system\\n' + (messages[0].content | trim if messages[0].role == 'system' else '') -}}
  {%- for tool in tools or [] -%}{{- '<|tool>' + (tool | tojson) + '<tool|>' -}}{%- endfor -%}
  {{- '<turn|>\\n' -}}
{%- endif -%}
{%- set state = namespace(before=none, next=none, answered=false, name='', pending=false, user=-1) -%}
{%- for message in rest -%}{%- if message.role == 'user' -%}{%- set state.user = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in rest -%}{%- if message.role != 'tool' -%}
  {%- set place = loop.index0 -%}
  {%- if not (message.role == 'assistant' and state.before == 'assistant') -%}
    {{- '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
  {%- endif -%}
  {%- if message.reasoning_content and place > state.user -%}
    {{- '<|channel>thought\\n' + message.reasoning_content + '\\n<channel|>' -}}
  {%- endif -%}
  {%- set state.answered = false -%}
  {%- for call in message.tool_calls or [] -%}
    {{- '<|tool_call>call:' + call.function.name + (call.function.arguments | tojson) + '<tool_call|>' -}}
  {%- endfor -%}
  {%- if message.tool_calls -%}
    {%- set state.pending = true -%}
    {%- for other in rest[place + 1:] -%}
      {%- if other.role != 'tool' -%}{%- set state.pending = false -%}{%- endif -%}
      {%- if state.pending -%}
        {%- set state.name = other.name -%}
        {%- for call in message.tool_calls if call.id == other.tool_call_id -%}
          {%- set state.name = call.function.name -%}
        {%- endfor -%}
        {{- '<|tool_response>response:' + state.name + '{value:' + other.content + '}<tool_response|>' -}}
        {%- set state.answered = true -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- message.content | trim -}}
  {%- set state.next = none -%}
  {%- for other in rest[place + 1:] if other.role != 'tool' and state.next is none -%}
    {%- if state.next is none -%}{%- set state.next = other.role -%}{%- endif -%}
  {%- endfor -%}
  {%- if message.tool_calls and not state.answered -%}
    {{- '<|tool_response>' -}}
  {%- elif message.role == 'assistant' and state.next == 'assistant' -%}
  {%- elif not (state.answered and not message.content and state.next is none) -%}
    {{- '<turn|>\\n' -}}
  {%- endif -%}
  {%- set state.before = message.role -%}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt and rest[-1].role != 'tool' -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""

# As GLM-4.5: a turn ends where the next role begins, and an empty turn has not even its line end.
GLM = """
{{- '[gMASK]<sop>' -}}
{%- if tools -%}
  {{- '<|system|>\\nTools:\\n' + (tools | tojson) + '\\nWrite calls between <tool_call> and </tool_call>.' -}}
{%- endif -%}
{%- set state = namespace(user=-1) -%}
{%- for message in messages -%}{%- if message.role == 'user' -%}{%- set state.user = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{- '<|assistant|>' -}}
    {%- if loop.index0 > state.user and message.reasoning_content -%}
      {{- '\\n<think>' + message.reasoning_content.strip() + '</think>' -}}
    {%- else -%}
      {{- '\\n<think></think>' -}}
    {%- endif -%}
    {%- if message.content.strip() -%}{{- '\\n' + message.content.strip() -}}{%- endif -%}
    {%- for call in message.tool_calls or [] -%}
      {{- '\\n<tool_call>' + call.function.name + '\\n' -}}
      {%- for key, value in call.function.arguments.items() -%}
        {{- '<arg_key>' + key + '</arg_key>\\n<arg_value>' -}}
        {{- (value if value is string else value | tojson) + '</arg_value>\\n' -}}
      {%- endfor -%}
      {{- '</tool_call>' -}}
    {%- endfor -%}
  {%- elif message.role == 'tool' -%}
    {%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- '<|observation|>' -}}{%- endif -%}
    {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
  {%- else -%}
    {{- '<|' + message.role + '|>\\n' + message.content -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

# As Hermes 3: two templates by name; the one for conversations without tools says nothing of calls.
HERMES = {
    "default": """
{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
""",
    "tool_use": """
{{- '<|im_start|>system\\nTools:' -}}
{%- for tool in tools -%}{{- '\\n' + (tool.function | tojson) -}}{%- endfor -%}
{{- '\\nWrite calls between <tool_call> and </tool_call>.<|im_end|>\\n' -}}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role -}}
  {%- if message.tool_calls -%}
    {%- for call in message.tool_calls -%}{{- '\\n<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' -}}{%- endfor -%}
  {%- elif message.role == 'tool' -%}
    {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
  {%- else -%}
    {{- '\\n' + message.content -}}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
""",
}

# As Kimi K2: what names the function of a call is its id.
KIMI = """
{%- if tools -%}{{- '<|im_system|>tool_declare<|im_middle|>' + (tools | tojson) + '<|im_end|>' -}}{%- endif -%}
{%- for message in messages -%}
  {{- '<|im_' + ('system' if message.role == 'tool' else message.role) + '|>' + message.role + '<|im_middle|>' -}}
  {%- if message.role == 'tool' -%}{{- '## Return of ' + message.tool_call_id + '\\n' -}}{%- endif -%}
  {{- message.content -}}
  {%- if message.tool_calls -%}
    {{- '<|tool_calls_section_begin|>' -}}
    {%- for call in message.tool_calls -%}
      {{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' + (call.function.arguments | tojson) -}}
      {{- '<|tool_call_end|>' -}}
    {%- endfor -%}
    {{- '<|tool_calls_section_end|>' -}}
  {%- endif -%}
  {{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_assistant|>assistant<|im_middle|>' -}}{%- endif -%}
"""

# As the R1 distillations: the turn opens with a thought, a later system text replaces the first, calls are not printed.
R1 = """
{%- set state = namespace(system='') -%}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}{%- set state.system = message.content -%}{%- endif -%}
{%- endfor -%}
{{- '<s>' + state.system -}}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{{- '<｜User｜>' + message.content -}}{%- endif -%}
  {%- if message.role == 'assistant' -%}
    {{- '<｜Assistant｜>' + message.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class Family:
    """A chat template with what its tokenizer needs.

    Attributes:
        template: The template, or several by name; None for the bundled model's family.
        end: The token that ends a turn.
        control: Special tokens to add.
        words: Ordinary words that are one token each.
        architecture: A model architecture of that family, for tiny models.
        more_ends: Other tokens that end a turn, which the tokenizer does not name.
    """

    template: str | dict[str, str] | None
    end: str
    control: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    architecture: str = "llama"
    more_ends: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[str, ...]:
        """All tokens that end a turn."""
        return (self.end, *self.more_ends)


FAMILIES = {
    "qwen": Family(
        QWEN, "<|im_end|>", words=("<think>", "</think>", "<tool_call>", "</tool_call>"), architecture="qwen3"
    ),
    "llama": Family(
        LLAMA, "<|eot_id|>", ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    ),
    "gemma": Family(GEMMA, "<end_of_turn>", ("<bos>", "<start_of_turn>", "<end_of_turn>"), architecture="gemma3"),
    "smollm": Family(None, "<|im_end|>"),
}


def _strict(
    template: str | dict[str, str], end: str, words: tuple[str, ...] = (), more_ends: tuple[str, ...] = ()
) -> Family:
    """Return a family whose special tokens are what stands in its template like one, but for `words`."""
    found = re.findall(r"<[^<>\s'\"]+>|\[/?[A-Z_]{3,}\]", str(template))
    control = tuple(token for token in dict.fromkeys([end, *more_ends, *found]) if token not in words)
    return Family(template, end, control, words, more_ends=more_ends)


_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
_ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
# Families whose templates refuse, drop, move or repeat what is ordinary.
STRICT_FAMILIES = {
    "nemo": _strict(NEMO, "</s>"),
    "ministral": _strict(MINISTRAL, "</s>"),
    "harmony": _strict(HARMONY, "<|return|>", more_ends=("<|call|>", "<|end|>")),
    "gemma4": _strict(GEMMA4, "<turn|>", more_ends=("<|tool_response>",)),
    "glm": _strict(GLM, "<|user|>", _TAGS + _ARGUMENT_TAGS, more_ends=("<|observation|>",)),
    "hermes": _strict(HERMES, "<|im_end|>", _TAGS),
    "kimi": _strict(KIMI, "<|im_end|>"),
    "r1": _strict(R1, "<｜end▁of▁sentence｜>", _TAGS),
}


def family_of(name: str) -> Family:
    """Return the family of that name."""
    return {**FAMILIES, **STRICT_FAMILIES}[name]


def family_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a copy of the bundled tokenizer with a family's template and control tokens."""
    family = family_of(name)
    tokenizer = growing_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(family.control)})
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in family.words])
    tokenizer.eos_token = family.end
    if family.template is not None:
        tokenizer.chat_template = family.template
    return tokenizer


def save_family_model(folder: Path, name: str, seed: int = 0, **changes: int) -> Path:
    """Save a tiny random model of a family, with its tokenizer and template, to `folder`; `changes` are of its sizes."""
    tokenizer = family_tokenizer(name)
    tiny_model(family_of(name).architecture, len(tokenizer), seed, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(
    template: str | dict[str, str], control: Iterable[str], end: str = "</s>"
) -> PreTrainedTokenizerBase:
    """Return a tokenizer whose tokens are bytes and the control tokens: made at once, for any template."""
    vocabulary = {letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end)
    made.add_special_tokens({"extra_special_tokens": list(control)})
    made.chat_template = template
    return made


OWN_TEMPLATES = {
    name: family.template for name, family in {**FAMILIES, **STRICT_FAMILIES}.items() if family.template is not None
}


@lru_cache
def template_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a quick tokenizer with a family's template, or with a published one; it is shared, and not to be changed."""
    if name in OWN_TEMPLATES:
        return byte_tokenizer(OWN_TEMPLATES[name], family_of(name).control, family_of(name).end)
    template = published_templates()[name]
    return byte_tokenizer(template, control_tokens(template))


@lru_cache
def template_renderer(name: str) -> ChatRenderer:
    """Return a renderer of such a template that is told of no more than the tokenizer's end token."""
    tokenizer = template_tokenizer(name)
    return ChatRenderer(tokenizer, frozenset({int(tokenizer.eos_token_id)}), today=DAY)


@lru_cache
def published_templates() -> dict[str, str]:
    """Return the chat templates of real models that the package `trl` carries; none where it is not installed.

    Those that it has changed for training are left out.
    """
    spec = importlib.util.find_spec("trl")
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(next(iter(places or ["."]))) / "chat_templates"
    found = sorted(path for path in folder.glob("*.jinja") if not path.stem.endswith("_training")) if places else []
    return {path.stem: path.read_text() for path in found}


def control_tokens(source: str) -> tuple[str, ...]:
    """Return what stands in a template's source like a control token."""
    found = re.findall(
        r"<[|｜][^<>\s'\"{}]{1,40}>|<[a-z_]{1,20}\|>|</s>|<(?:start|end)_of_\w+>|\[/?[A-Z_]{3,}\]", source
    )
    return tuple(dict.fromkeys(found))
