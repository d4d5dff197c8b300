#!/usr/bin/env python3
"""Makes chat_golden.json: what Jinja itself renders, set up as Hugging Face's library sets it up.

usage: make_chat_golden.py SMOLLM2_GGUF    (needs jinja2, gguf)
SPDX-License-Identifier: Apache-2.0

`templates`: sources with the texts that conversations become. SmolLM2's is its file's own; the others are
written here to give what the models' documentation shows, with the constructs that such templates use.
`named`: the same conversations through the templates that have a name here.
`snippets`: single constructs. A null text stands for a template or a conversation that Jinja refuses.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import jinja2.exceptions
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT = Path(__file__).resolve().parent / "chat_golden.json"


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    result = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    return result


JINJA = environment()


def render(source, messages, generate, bos, eos):
    try:
        return JINJA.from_string(source).render(
            messages=messages, add_generation_prompt=generate, bos_token=bos, eos_token=eos)
    except Exception as error:
        print(f"refused: {error}: {source[:60]!r}", file=sys.stderr)
        return None


TEMPLATES = {
    "llama2": ("<s>", "</s>", """{% if messages[0]['role'] == 'system' %}
{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}
{% else %}{% set loop_messages = messages %}{% set system = false %}
{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant must alternate') }}
{% endif %}
{% if loop.index0 == 0 and system != false %}
{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}{% set content = message['content'] %}{% endif %}
{% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + content.strip() + ' ' + eos_token }}
{%- endif %}
{% endfor %}"""),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""),
    "llama3.1": ("<|begin_of_text|>", "<|eot_id|>", """{{- bos_token }}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message goes apart. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' + arg_val + '"' }}
        {%- endfor %}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""),
    "gemma": ("<bos>", "<eos>", """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""),
    "gemma3": ("<bos>", "<eos>", """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("turns must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""),
    "qwen2.5": ("", "<|im_end|>", """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    "mistral": ("<s>", "</s>", """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Turns alternate; calls of tools are no turns. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("turns must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- for key, val in tool.function.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- endif %}
                {%- endfor %}
            {%- endfor %}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + "}" }}
    {%- else %}
        {{- raise_exception("unknown role") }}
    {%- endif %}
{%- endfor %}
"""),
    "tinyllama": ("<s>", "</s>", """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""),
    "phi3": ("<s>", "<|endoftext|>", """{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""),
    "deepseek-like": ("<bos>", "<eos>", """{% set ns = namespace(is_first=true, system='') %}{% macro turn(kind, text='', end=eos_token) -%}
  <{{ kind | upper }}>{{ text }}{{ end if kind == 'assistant' else '' }}
{%- endmacro %}{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{% if ns.is_first %}{% set ns.system = ns.system ~ message.content %}{% set ns.is_first = false %}{% else %}{% set ns.system = ns.system ~ '\n\n' ~ message.content %}{% endif %}{% endif %}{% endfor %}{{ ns.system }}{% for message in messages if message.role != 'system' %}{% set content = message.content %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ turn(message.role, content) }}{% else %}nothing{% endfor %}"""),
}

NAMED = {"chatml": ("", "<|im_end|>"), "llama2": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
         "gemma": ("<bos>", "<eos>")}
# What the named ones shall agree with.
LIKE = {"llama2": "llama2", "llama3": "llama3", "gemma": "gemma3"}
CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [message("user", "Hello!")],
    [message("system", "Be brief."), message("user", "  Two and two?\n")],
    [message("user", "One"), message("assistant", " 1 "), message("user", "Two")],
    [message("system", "S"), message("user", "A"), message("assistant", "<think>x</think>\n\nB"), message("user", "C"),
     message("assistant", "D")],
    [message("user", ""), message("assistant", "")],
    [message("user", "日本語 “quotes” \\ {{ x }} {% if %} \t\u00a0 é\u3000")],
    [message("user", "<|im_end|>\n<|im_start|>system\n<s>[INST]</s><bos><end_of_turn>")],
    [message("user", "a"), message("user", "b")],
    [message("assistant", "first")],
    [message("user", "q"), message("tool", "42"), message("tool", "43")],
    [message("system", "one"), message("system", "two"), message("user", "x")],
    [message("wizard", "abracadabra")],
    [],
]

SNIPPETS = r"""
plain text
a{{ 1 }}b
{{ 1 }}\n
{{ 1 }}\n\n
x\n  {% if true %}\n    y\n  {% endif %}\nz
x\n  {%- if true -%}\n    y\n  {%- endif -%}\n  z
x\n  {%+ if true +%}\n    y\n  {% endif %}\nz
x {% if true %}\n y {% endif %} \n z
x\n  {{ 1 }}\n  {{- 2 -}}\n  z
x\n  {# note #}\n  y {#- note -#}\n z
{# note #}\n  {% if true %}q{% endif %}
  {% if true %}first line{% endif %}
a\r\nb\rc\n
{{ 'a\nb\t\x41\u00e9\'\"\\ \q' }}
{{ "it's" 'one' "string" }}
{{ 'a' ~ 1 ~ 2.5 ~ none ~ true ~ [1, 'x'] ~ {'k': 'v"\'' } }}
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ -7 // 2 }} {{ 7 / 2 }} {{ 2 * 1.5 }} {{ -3 }}
{{ 7 // -2 }} {{ 7 % -3 }} {{ 6 / 3 }} {{ 1e2 if false else 3.0 }} {{ 10 / 4 * 2 }}
{{ -7.5 % 2 }} {{ 7.5 // 2 }} {{ 1 / 3 }} {{ 100000000000000000000.5 }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ true == 1 }} {{ none == none }} {{ 'a' != 'b' }}
{{ 'b' in 'abc' }} {{ 1 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 'z' not in 'abc' }} {{ 'x' in undefined_thing }}
{{ not true or true }} {{ not (true or true) }} {{ 1 and 0 or 'x' }} {{ '' or none or [] or 'last' }} {{ 0 and x.y }}
{{ 'a' if 1 == 2 else 'b' if false else 'c' }} [{{ 'a' if false }}]
{{ 'abc' | upper + 'd' }} {{ ('abc' + 'd') | upper }} {{ -1 | abs }} {{ (1 + 2) | string + 'x' }}
{{ 1 ~ 2 + 3 }}
{{ 1 + 2 ~ 3 }}
{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'abc'[9] }} {{ 'abc'[1:] }} {{ 'abc'[:-1] }} {{ 'abc'[::-1] }} {{ 'abcdef'[1:5:2] }} {{ 'abc'[5:] }}
{{ 'äöü€x'[1:4] }} {{ 'äöü€x' | length }} {{ 'äöü€x'[-2] }} {{ 'äöü' | first }} {{ 'äöü' | last }} {{ 'äöü' | reverse }}
{{ [1, 2, 3][1] }} {{ [1, 2, 3][-1] }} {{ [1, 2, 3][7] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3, 4][1:3] }} {{ [1,2,3][-2:] }} {{ [1,2,3][:-5] }}
{{ [1, 2, 3][5:1:-1] }} {{ [1, 2, 3][-9:9] }} {{ [][::-1] }} {{ 'abc'[-5:2] }}
{{ {'a': 1, 'b': 2}['b'] }} {{ {'a': 1}.a }} {{ {'a': 1}.b }} {{ {'a': {'b': {'c': 3}}}.a.b.c }} {{ {'a': 1, 'a': 2} }}
{{ (1, 2)[0] }} {{ () | length }} {{ (3) }} {{ (1,) | first }}
{{ [] }} {{ {} }} {{ [1.0, none, true, 'it\'s', "q\"'"] }} {{ ['tab\t\n\x01'] }}
{{ missing }}|{{ missing.attribute }}
{{ missing['x'] }}
{{ missing + 'x' }}
{{ missing ~ 'x' }} {{ missing | length }} {{ missing | default('d') }} {{ '' | default('d') }}{{ '' | default('d', true) }} {{ none | d('x', boolean=true) }}
{{ missing is defined }} {{ missing is undefined }} {{ messages is defined }} {{ messages[9] is defined }} {{ messages[0].tool_calls is defined }}
{{ none is none }} {{ 1 is none }} {{ 'a' is string }} {{ 1 is string }} {{ {} is mapping }} {{ [] is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ [] is sequence }} {{ {} is sequence }} {{ 1 is sequence }}
{{ 1 is number }} {{ 1.5 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.5 is float }} {{ true is boolean }} {{ 1 is true }} {{ true is true }} {{ false is false }}
{{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 1 is equalto 1 }} {{ 1 is eq(2) }} {{ 2 is gt 1 }} {{ 1 is in [1] }} {{ 2 is ne 2 }}
{{ 'a' is not string }} {{ 'a' is string and 1 is not string }} {{ not 'a' is string }} {{ range is callable }} {{ 1 is callable }}
{{ '  x y  ' | trim }}| {{ 'xxaxx' | trim('x') }} {{ 'a,b' | replace(',', ';') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'ab' | replace('', '-') }}
{{ 'hello world' | capitalize }} {{ 'hello wORLD-day (x)' | title }} {{ 'ÄÖß' | lower }} {{ 'straße' | upper }} {{ 'ΑΣ' | lower }}
{{ [1, 2, 3] | join }} {{ [1, 2, 3] | join(', ') }} {{ messages | join('/', attribute='role') }} {{ 'abc' | join('.') }} {{ [] | join('x') }}
{{ [1, 2] | first }} {{ [1, 2] | last }} [{{ [] | first }}] {{ 'abc' | list }} {{ {'a': 1} | list }} {{ [3, 1] | reverse | list }}
{{ '12' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ ' 5 ' | int + 1 }} {{ 5 | string + '!' }} {{ -4 | abs }} {{ 1.5 | abs }}
{{ 5 | upper }} {{ none | trim }} {{ true | lower }}
{{ {'a': [1, 2.0, 'ü"\\\n\u0007', none, true], 'b': {}, 'c': []} | tojson }}
{{ {'a': [1, {'x': 'y'}], 'b': {}, 'c': []} | tojson(indent=2) }}
{{ 'text' | tojson }} {{ 1.5 | tojson }} {{ none | tojson }} {{ messages | tojson }}
{{ messages | map(attribute='role') | join(',') }} {{ messages | map('length') | list }} {{ ['a', 'b'] | map('upper') | join }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }} {{ messages | rejectattr('role', 'eq', 'user') | list | length }} {{ messages | selectattr('content') | list | length }}
{{ [1, 0, 2] | select | list }} {{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('gt', 1) | list }} {{ [1, 2] | select('in', [2]) | list }}
{{ {'b': 1, 'a': 2} | items | map('first') | list }} {{ {'b': 1}.items() | list | length }} {{ {'b': 1, 'a': 2}.keys() | list }} {{ {'b': 1}.values() | list }} {{ {'b': 1}.get('b') }} {{ {'b': 1}.get('c') }} {{ {'b': 1}.get('c', 'd') }}
{{ ' x '.strip() }}|{{ ' x '.lstrip() }}|{{ ' x '.rstrip() }}|{{ 'xyax'.strip('xy') }}|{{ 'é!é'.strip('é') }}|{{ ''.strip() }}|{{ '\u3000\u00a0x\u2003'.strip() }}|
{{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ '  a  b '.split() }} {{ ' a b  c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('x') }} {{ ' a '.split(' ') }} {{ 'a b c '.split(none, 0) }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'abc'.capitalize() }} {{ 'aXbX'.replace('X', '-') }} {{ 'äbc'.find('c') }} {{ 'abc'.find('z') }} {{ 'banana'.count('an') }} {{ ', '.join(['a', 'b']) }}
{{ 'a'.split('') }}
{{ 'a' + 1 }}
{{ 1 + none }}
{{ 'a' < 1 }}
{{ 1 // 0 }}
{{ 5.unknown }}
{{ 'x'.unknown_method() }}
{{ 'x' | unknown_filter }}
{{ 'x' is unknown_test }}
{{ unknown_function() }}
{{ messages[0].content.upper() }} {{ messages[0]['content'][1:3] }} {{ messages[-1].role }} {{ messages[1:] | length }} {{ messages | length }}
{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}
{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if not loop.last else '-' }} {% endfor %}
{% for x in [] %}a{% else %}b{% endfor %}{% for x in [1] %}a{% else %}b{% endfor %}{% for x in missing %}a{% else %}c{% endfor %}
{% for x in [1, 2, 3, 4] if x is even %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}
{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [[1, 2], 'xy'] %}{{ b }}{% endfor %}{% for k in {'q': 1} %}{{ k }}{% endfor %}{% for c in 'añb' %}{{ c }}.{% endfor %}
{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}
{% for x in 5 %}{{ x }}{% endfor %}
{% for i in range(3) %}{{ i }}{% endfor %} {{ range(2, 8, 3) | list }} {{ range(3, 0, -1) | list }} {% for i in range(0) %}x{% else %}none{% endfor %}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, 2] %}{% for j in [3, 4] %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% if true %}{% set y = 5 %}{% endif %}{{ y }} {% set a, b = 1, 2 %}{{ a + b }} {% set t = 1, 2 %}{{ t | length }}
{% set ns = namespace(n=0, found=false) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.other = i %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns.other }}{{ ns.missing }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }} {{ dict(x=1, y='z') }} {{ dict({'q': 1}, r=2) }}
{% set d = {'a': 1} %}{% set d.a = 2 %}{{ d.a }}
{% set block %}in {{ 1 + 1 }}{% if true %} side{% endif %}{% endset %}[{{ block }}]{{ block | length }}
{% macro greet(name, greeting='Hi') %}{{ greeting }} {{ name }}!{% endmacro %}{{ greet('A') }}{{ greet('B', greeting='Yo') }}{{ greet(name='C') | upper }}{{ greet() }}
{% set outer = 'o' %}{% macro m() %}{{ outer }}{{ inner }}{% endmacro %}{% for inner in [1] %}{{ m() }}{% endfor %}
{% macro count(n) %}{{ n }}{% if n > 0 %}{{ count(n - 1) }}{% endif %}{% endmacro %}{{ count(4) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=1) }}
{% if 0 %}a{% elif '' %}b{% elif [1] %}c{% else %}d{% endif %}{% if none %}a{% else %}e{% endif %}{% if 'x' %}f{% endif %}
{{ raise_exception('refused: ' ~ messages[0].role) }}
{% if raise_exception is defined and strftime_now is not defined %}ok{% endif %}
{{ messages[0] == messages[0] }} {{ messages[0] == messages[1] }} {{ [1, [2]] == [1, [2]] }} {{ {'a': 1} == {'a': 1.0} }} {{ 'a' == 1 }} {{ missing == none }} {{ missing == gone }}
{{ [1, 2,] }} {{ {'a': 1,} }} {{ [[1], [2, [3]]] }} {{ [1] + [2] }}
{{ {'a': '}}'} }} {{ '{{' }} {{ "%}" }} {% set x = '{% if %}' %}{{ x }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }} {{ 'x' 'y' }} {{ 0 }} {{ 00 }}
{{ bos_token ~ eos_token }} {{ add_generation_prompt }}
{% if messages[0].role == 'user' and messages[0].content is string and messages | length > 1 %}yes{% endif %}
{% set x = messages | selectattr('role', 'equalto', 'system') | first %}{{ x is defined }}{{ x }}
{{ 'abc' | string | length }} {{ 'a b c'.split(' ') | last }} {{ ('a b c'.split(' ') | map('upper') | list)[1] }}
{{ messages|length }}{{messages[0]['role']}}{{-'x'-}} y
{%if 1%}tight{%endif%}{%for i in[1,2]%}{{i}}{%endfor%}
{{ 'safe' | safe }} {{ '<b>' }} {{ 'x' | d }}
{{ 3 if }}
{{ }}
{% if %}x{% endif %}
{% if true %}x
{% endif %}
{% for x in [1] %}x
{{ 'open }}
{{ (1 }}
{{ 1) }}
{# open
{% unknown %}
{% else %}
{{ x.1 }}
{{ [1 2] }}
{% set 5 = 1 %}
{% break %}
{{ 1 ! 2 }}
{{ 9223372036854775807 }}
""".strip("\n").split("\n")

def with_line_ends(line):
    """Outside of tags, \\n and \\r stand for line ends of the template."""
    source = ""
    inside = False
    while line:
        if line[:2] in ("{{", "{%", "{#"):
            inside = True
        elif line[:2] in ("}}", "%}", "#}"):
            inside = False
        end = {"\\n": "\n", "\\r": "\r"}.get(line[:2])
        source += line[0] if inside or end is None else end
        line = line[1 if inside or end is None else 2:]
    return source


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    smollm2 = reader.fields["tokenizer.chat_template"].contents()
    templates = {"smollm2": ("<|im_start|>", "<|im_end|>", smollm2), **TEMPLATES}
    golden = {"made_by": {name: version(name) for name in ("jinja2", "gguf")}, "conversations": CONVERSATIONS,
              "templates": {}, "named": {}, "snippets": []}

    def texts(source, bos, eos):
        return [[render(source, conversation, generate, bos, eos) for generate in (False, True)]
                for conversation in CONVERSATIONS]

    for name, (bos, eos, source) in templates.items():
        golden["templates"][name] = {"source": source, "bos": bos, "eos": eos, "texts": texts(source, bos, eos)}
    for name, (bos, eos) in NAMED.items():
        source = TEMPLATES[LIKE[name]][2] if name in LIKE else CHATML
        golden["named"][name] = {"bos": bos, "eos": eos, "texts": texts(source, bos, eos)}
    for line in SNIPPETS:
        source = with_line_ends(line)
        golden["snippets"].append([source, render(source, CONVERSATIONS[3], True, "<bos>", "<eos>")])
    OUT.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()
