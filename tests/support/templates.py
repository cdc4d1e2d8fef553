"""Chat templates in our own words that behave as those of the Qwen3, Llama 3 and Gemma families do, and their tokenizers."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from tests.support.models import bundled_tokenizer, tiny_model

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


@dataclass(frozen=True)
class Family:
    """A chat template with what its tokenizer needs.

    Attributes:
        template: The template; None for the bundled model's own.
        end: The token that ends a turn.
        control: Special tokens to add.
        words: Ordinary words that are one token each.
        architecture: A model architecture of that family, for tiny models.
    """

    template: str | None
    end: str
    control: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    architecture: str = "llama"


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


def family_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a copy of the bundled tokenizer with a family's template and control tokens."""
    family = FAMILIES[name]
    tokenizer = bundled_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(family.control)})
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in family.words])
    tokenizer.eos_token = family.end
    if family.template is not None:
        tokenizer.chat_template = family.template
    return tokenizer


def save_family_model(folder: Path, name: str, seed: int = 0, **changes: int) -> Path:
    """Save a tiny random model of a family, with its tokenizer and template, to `folder`; `changes` are of its sizes."""
    tokenizer = family_tokenizer(name)
    tiny_model(FAMILIES[name].architecture, len(tokenizer), seed, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
