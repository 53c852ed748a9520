"""Golden renderings of chat templates by transformers: `python tests/golden/chat_templates.py` in the repository root.

The templates are written for this test; together they use what published ones use. Output: tests/golden/chat_templates.json.
"""
import json, pathlib
import jinja2, transformers
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "chatml": """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "headers": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header|>system<|end_header|>\\n\\nToday: " + strftime_now("%d %b %Y") + "\\n" + system + "<|eot|>" }}
{%- if tools is not none %}
    {%- for tool in tools %}
        {{- tool | tojson(indent=2) + "\\n" }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|start_header|>ipython<|end_header|>\\n\\n' + message.content | tojson + '<|eot|>' }}
    {%- elif message.tool_calls is defined and message.tool_calls %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header|>assistant<|end_header|>\\n\\n{"name": "' + call.name + '", "arguments": ' + call.arguments | tojson + '}<|eot|>' }}
    {%- else %}
        {{- '<|start_header|>' + message['role'] + '<|end_header|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header|>assistant<|end_header|>\\n\\n' }}{%- endif %}""",
    "brackets": """{{ bos_token }}{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: user, assistant, user, ...') }}
    {% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + message['content'].strip() + eos_token }}{% endif %}{% endfor %}""",
    "thoughts": """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "marked": """{% for message in messages %}
    {% if message.role == 'assistant' %}
Assistant: {% generation %}{{ message.content }}{{ eos_token }}
{% endgeneration %}
    {% else %}
{{ message.role | capitalize }}: {{ message.content }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
Assistant: {% endif %}""",
    "continued": """{{ bos_token }}{%- set intro = "One line,\\
still the same: \\"}}\\"." %}{{ intro }}{% for message in messages %}[{{ message.role }}]{{ message.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}""",
    "macros": """{%- macro said(name, text, end='\\n') -%}
<{{ name }}>{{ text }}</{{ name }}>{{ end }}
{%- endmacro -%}
{%- set names = {'user': 'q', 'assistant': 'a', 'system': 's'} -%}
{%- for key, value in names.items() -%}{%- if loop.first -%}{{ key ~ '=' ~ value ~ ';' }}{%- endif -%}{%- endfor -%}
{{ messages | map(attribute='role') | list | join(',') }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ true }} {{ none }} {{ 7 // 2 }} {{ 3.0 }}
{% for message in messages -%}
{%- if not loop.first and loop.previtem.role == message.role %}{% continue %}{% endif -%}
{{ said(names.get(message.role, 'x'), message.content | replace('\\n', ' ')) }}
{%- endfor -%}
{%- if add_generation_prompt %}<a>{% endif -%}""",
}

CALL = {"type": "function", "function": {"name": "look", "arguments": {"place": "Zoë's <b>", "n": 3}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}
turn = lambda role, content, **more: {"role": role, "content": content, **more}
CONVERSATIONS = {
    "one": [turn("user", "Say hi & bye."), turn("assistant", "Hi, bye.")],
    "system": [turn("system", " Answer in verse. "), turn("user", "Why?"), turn("assistant", "Because\nof rhyme.")],
    "two": [turn("user", " first "), turn("assistant", "one"), turn("user", "second\nline"), turn("assistant", "two 'quoted' <b>")],
    "thinking": [turn("user", "2+2?"), turn("assistant", "<think>\nadd\n</think>\n\n4"), turn("user", "3+3?"), turn("assistant", "<think>\nadd more\n</think>\n\n6")],
    "calls": [turn("user", "Look."), turn("assistant", None, tool_calls=[CALL]), turn("tool", "two birds"), turn("assistant", "Two birds.")],
}


def render(template, messages, answering, tools=None, marks=False):
    return render_jinja_template(
        conversations=[messages], tools=tools, chat_template=template, return_assistant_tokens_mask=marks,
        add_generation_prompt=answering, bos_token="<s>", eos_token="</s>",
    )


def main():
    import datetime, transformers.utils.chat_template_utils as utils

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 4)

    utils.datetime = Fixed
    golden = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "templates": TEMPLATES, "conversations": CONVERSATIONS, "tools": [TOOL], "cases": [],
    }
    for name, template in TEMPLATES.items():
        for which, messages in CONVERSATIONS.items():
            if which == "calls" and name != "headers":
                continue
            tools = [TOOL] if which == "calls" else None
            case = {"template": name, "conversation": which}
            try:
                case["whole"] = render(template, messages, False, tools)[0][0]
                case["prompt"] = render(template, messages[:-1], True, tools)[0][0]
                if name == "marked":
                    case["learned"] = render(template, messages, False, tools, True)[1][0]
            except jinja2.exceptions.TemplateError as err:
                case["error"] = str(err)
            golden["cases"].append(case)
    path = pathlib.Path("tests/golden/chat_templates.json")
    path.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
