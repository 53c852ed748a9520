"""What Jinja2 makes of constructs that chat templates use: `python tests/golden/jinja.py` in the repository root.

The environment is the one that transformers renders chat templates in. Needs jinja2. Output: tests/golden/jinja.json.
"""
import json
import pathlib

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

MESSAGES = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Why?\nReally?"},
    {"role": "assistant", "content": "Because.", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": [True, None, 1.5, "it's"]}}}]},
    {"role": "tool", "content": "{\"x\": 1}", "name": "f"},
    {"role": "assistant", "content": "Done é."},
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d's \"x\" <b>", "parameters": {"type": "object", "properties": {}}}}]

CASES = [
    "{{ tools is none }} {{ nothing is defined }} {{ nothing is iterable }} {{ none is iterable }} {{ 1 is iterable }} {{ 'a' is iterable }}",
    "{{ (tools is iterable and tools | length > 0) }}",
    "{{ messages | length }} {{ messages[0]['role'] }} {{ messages[-1].role }} {{ messages[1:][0].role }} {{ messages[::-1][0].content }}",
    "{% for m in messages[1:-1] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }} {% endfor %}",
    "{{ messages[1].content | trim }}|{{ messages[0].content | trim }}|{{ messages[0].content.strip() }}|{{ messages[0].content.lstrip() }}|{{ messages[0].content.rstrip() }}|",
    "{{ messages[2].tool_calls[0] | tojson }} {{ messages[2].tool_calls[0].function.arguments | tojson(indent=4) }}",
    "{{ messages[2].tool_calls[0].function.arguments.items() | list }}",
    "{% for k, v in messages[2].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in messages[3] %}{{ k }},{% endfor %}",
    "{{ {'a': 1, 'b': [true, none, 'x', 1.0]} }} {{ ['a', \"it's\"] }} {{ (1, 2) }}",
    "{{ {'a': 1}['a'] }} {{ {'a': 1}.get('b', 'none') }} {{ {'a': 1}.get('b') }}",
    "{{ 'a' ~ 1 ~ true ~ none ~ 1.5 }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ [1] + [2] }}",
    "{{ 7 // 2 }} {{ 7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 6 / 2 }} {{ -7 // 2 }} {{ 1 + 1.0 }} {{ 10000000000000000000000 }}",
    "{{ 'x' in 'xyz' }} {{ 'role' in messages[0] }} {{ 3 not in [1, 2] }} {{ 'q' in ['q'] }}",
    "{{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',')[-1] }} {{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }}",
    "{{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'abc'.title() }} {{ 'abc'.capitalize() }}",
    "{{ 'abc'.replace('b', 'x') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'abc'.find('c') }} {{ 'aab'.count('a') }} {{ ','.join(['a', 'b']) }}",
    "{{ '</think>ab'.split('</think>')[-1].lstrip('\\n') }} {{ 'xxaxx'.strip('x') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }}",
    "{{ 'a\\nb'.splitlines() }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ 'abc'[0] }} {{ 'abc' | length }} {{ 'abc' | first }} {{ 'abc' | last }}",
    "{{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join('/') }}",
    "{{ messages | selectattr('tool_calls', 'defined') | list | length }} {{ messages | groupby('role') | length }} {{ [3, 1, 2] | sort }} {{ [1, 2] | sum }} {{ ['a', 'a', 'b'] | unique | list }}",
    "{{ [1, 2, 3] | max }} {{ [1, 2, 3] | min }} {{ 'x' | upper }} {{ 'a b' | title }} {{ 3.7 | int }} {{ '5' | int }} {{ 3.14159 | round(2) }} {{ -3 | abs }} {{ 5 | string }} {{ 'q' | default('d') }} {{ nothing | default('d') }} {{ '' | default('d', true) }}",
    "{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1}.keys() | list }} {{ {'b': 1}.values() | list }} {{ {'b': 1} | items | list }}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "{% macro f(a, b='x') %}[{{ a }}{{ b }}{{ caller is defined }}]{% endmacro %}{{ f('q') }}{{ f('q', b='y') }}{{ f(a=1, b=2) }}",
    "{% macro w(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call w('b') %}x{% endcall %}",
    "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{% if loop.index > 4 %}{% break %}{% endif %}{{ m.role }} {% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'assistant' %}{{ loop.index }}{{ m.content }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else 'start' }}>{{ loop.nextitem.role if not loop.last else 'end' }} {% endfor %}",
    "{% for a in [1, 2] %}{% for b in 'xy' %}{{ loop.index }}{{ a }}{{ b }}{{ loop.depth }} {% endfor %}{% endfor %}{{ range(3) | list }} {{ range(1, 7, 2) | list }}",
    "{{ loop_messages is not defined }} {{ messages is defined }} {{ messages is sequence }} {{ messages[0] is mapping }} {{ 'a' is string }} {{ 1 is number }} {{ 1 is integer }} {{ 1.5 is float }} {{ true is boolean }} {{ true is true }} {{ 0 is false }} {{ none is none }} {{ 3 is odd }} {{ 2 is even }} {{ 2 is eq 2 }} {{ 1 is in [1] }} {{ 'a' is lower }} {{ 4 is divisibleby 2 }}",
    "{{ 'yes' if messages else 'no' }} {{ 'yes' if nothing }}|{{ not tools }} {{ [] or 'empty' }} {{ 1 and 2 }} {{ none or 0 }}",
    "a\n  {%- if true %}\n  b\n  {%- endif %}\n  {% if true %}\n    c\n  {% endif %}\nd\n",
    "  {# note #}\nx {#- note -#} y\n{% raw %}{{ raw }}{% endraw %}\n",
    "{% set x %}block {{ 1 }}{% endset %}{{ x }}|{{ x | length }}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}{% with q = 3 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{{ messages[1].content.split('\\n') | map('upper') | join(' + ') }} {{ ['a', 'b'] | map('length') | list }} {{ [1, 2, 3, 4] | select('even') | list }} {{ [1, 2] | reject('odd') | list }} {{ [[1, 2], [3]] | sum(start=[]) }}",
    "{{ 'é' | tojson }} {{ '<b>&\\'' | tojson }} {{ none | tojson }} {{ true | tojson }} {{ 1.0 | tojson }} {{ [1, {'a': 'x'}] | tojson }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}",
    "{{ tools | tojson }}{{ tools }}",
    "{{ tools[0].function.description }} {{ tools[0]['function'] | string }} {{ tools[0].function.parameters.properties | length == 0 }}",
    "{{ '{} and {}'.format('a', 'b') }} {{ '%05.2f' | format(3.14159) }}",
    "{{ 'a\\tb\\\\n' }} {{ \"double 'single'\" }} {{ 'caf\\u00e9' }}",
    "{{ 'word ' | indent(2) }}|{{ 'a\\nb' | indent(4, first=true) }}|{{ 'a b' | replace(' ', '_') }}|{{ ['x'] | first }}|{{ [1, 2, 3] | last }}|{{ 'abc' | list }}|{{ [1, 2, 3] | batch(2) | list }}",
    "{{ messages[0].nothing is defined }} {{ messages[0]['nothing'] is undefined }} {{ messages[0].nothing }}| {{ messages[0].get('nothing') is none }}",
    "{%- for m in messages -%}\n{{- m.role -}}\n{%- if not loop.last -%}, {% endif -%}\n{%- endfor -%}",
    "{{ 1 == 1.0 }} {{ '1' == 1 }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }} {{ 1 < 2 <= 2 }} {{ 'a' < 'b' }} {{ not 1 == 2 }} {{ none == none }} {{ true == 1 }}",
    "{{ dict(a=1, b=2) }} {{ dict(a=1)['a'] }}",
    "{% if messages[0]['role'] == 'system' %}{% set offset = 1 %}{% else %}{% set offset = 0 %}{% endif %}{{ offset }}{% for m in messages[offset:] %}{{ (m['role'] == 'user') == (loop.index0 % 2 == 0) }} {% endfor %}",
    "{{ messages[2]['tool_calls'][0]['function']['arguments']['b'][3] }} {{ messages[2].tool_calls[0].function.name }} {{ (messages | last).role }} {{ (messages | first)['role'] }}",
]


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
cases = []
for source in CASES:
    for given in [None, TOOLS]:
        try:
            text = env.from_string(source).render(messages=MESSAGES, tools=given, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
        except Exception as err:
            text = None
        cases.append({"source": source, "tools": given is not None, "text": text})
out = {"versions": {"jinja2": jinja2.__version__}, "messages": MESSAGES, "tools": TOOLS, "cases": cases}
pathlib.Path("tests/golden/jinja.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
