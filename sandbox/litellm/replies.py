"""What the models say: plausible, about the question, and the same every time.

The words come from here; how many tokens they are is for the one tokenizer to say (tokens.py).
"""

import random
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from sandbox.litellm import tokens
from sandbox.litellm.structured import instance

CODE = re.compile(
    r"\b(code|function|component|html|css|react|page|button|website|script|form|landing)\b", re.I
)
QUOTED_WORDS = 14

OPENINGS = [
    "You asked about “{topic}”, so let us take it step by step.",
    "Good question: “{topic}” is easier than it looks once it is taken apart.",
    "Here is how I would approach “{topic}”.",
    "Let me answer “{topic}” directly, and then say why.",
]
MIDDLES = [
    "Start with the smallest version that could work, and check it before you add anything.",
    "The part that matters most is what happens when something goes wrong, so decide that early.",
    "Write down what you expect to see first; then a surprise tells you something.",
    "Most of the effort goes into the edges, not into the middle.",
    "Two choices look alike here, but only one of them can be changed later without pain.",
    "If you measure before and after, you will know whether the change was worth it.",
    "Keep the names close to how people already talk about it.",
    "It helps to separate what must be true from what is merely convenient.",
    "A short example usually explains it better than a long definition.",
]
ENDINGS = [
    "Tell me which part you would like in more detail.",
    "If your situation differs, say how, and I will adjust the answer.",
    "Try that first, and come back with what you see.",
]
SNIPPET = """Here is a small starting point:

```html
<section class="card">
  <h2>{topic}</h2>
  <p>Replace this text with your own.</p>
  <button type="button">Continue</button>
</section>
```
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer as the pieces it is streamed in, each with its JSON ready to be sent."""

    pieces: tuple[tuple[str, bytes], ...]
    finish_reason: str
    # Name and id of the tool that is called; the pieces are then its arguments.
    tool: tuple[str, str] | None = None

    @property
    def text(self) -> str:
        return "".join(piece for piece, _ in self.pieces)


def compose(body: dict[str, Any], cap: int | None) -> list[Choice]:
    """The answers to a chat request, none longer than `cap` tokens (None: as long as they are)."""
    messages = body["messages"]
    question = last_question(messages)
    model = str(body["model"])
    if called := tool_to_call(body, messages, question):
        name, schema = called
        arguments = orjson.dumps(instance(schema, topic_of(question))).decode()
        call_id = f"call_{zlib.crc32(arguments.encode()):08x}{zlib.crc32(name.encode()):08x}"
        return [Choice(pieces_of(arguments), "tool_calls", (name, call_id))]
    count = body.get("n") or 1
    choices = []
    for number in range(int(count)):
        if schema := wanted_json(body):
            text = orjson.dumps(instance(schema, topic_of(question))).decode()
        else:
            text = prose(model, question, number, result_of_tool(messages))
        choices.append(cut(text, body.get("stop"), cap))
    return choices


def cut(text: str, stop: object, cap: int | None) -> Choice:
    for word in [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []:
        if isinstance(word, str) and word and word in text:
            text = text[: text.index(word)]
    pieces = pieces_of(text)
    if cap is not None and len(pieces) > cap:
        return Choice(pieces[: max(cap, 0)], "length")
    return Choice(pieces, "stop")


@lru_cache(maxsize=4096)
def pieces_of(text: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((piece, orjson.dumps(piece)) for piece in tokens.split(text))


@lru_cache(maxsize=4096)
def prose(model: str, question: str, number: int, result: str | None) -> str:
    chance = random.Random(zlib.crc32(f"{model}|{number}|{question}".encode()))
    topic = topic_of(question)
    sentences = [chance.choice(OPENINGS).format(topic=topic)]
    if result is not None:
        sentences = [f"The tool answered “{topic_of(result)}”, which settles it."]
    sentences += chance.sample(MIDDLES, chance.randint(3, 6))
    text = " ".join(sentences)
    if CODE.search(question):
        text += "\n\n" + SNIPPET.replace("{topic}", topic) + "\n"
    else:
        text += " "
    return text + chance.choice(ENDINGS)


def last_question(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return tokens.text_of(message.get("content"))
    return ""


def topic_of(question: str) -> str:
    words = question.split()
    short = " ".join(words[:QUOTED_WORDS])
    return short + ("…" if len(words) > QUOTED_WORDS else "") if words else "nothing in particular"


def result_of_tool(messages: list[dict[str, Any]]) -> str | None:
    last = messages[-1] if messages else {}
    return tokens.text_of(last.get("content")) if last.get("role") == "tool" else None


def wanted_json(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON that the request asks for, if it does."""
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        texts = {"type": "array", "items": {"type": "string"}}
        return {"properties": {"answer": {"type": "string"}, "next_steps": texts}}
    if kind == "json_schema" and isinstance(wanted, dict):
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        return schema if isinstance(schema, dict) else {"type": "object"}
    return None


def tool_to_call(
    body: dict[str, Any], messages: list[dict[str, Any]], question: str
) -> tuple[str, Any] | None:
    """The tool that is asked for: by tool_choice, or by a question that names it."""
    functions = [
        tool["function"]
        for tool in body.get("tools") or []
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice") or "auto"
    if not functions or choice == "none" or result_of_tool(messages) is not None:
        return None
    asked = set(re.findall(r"\w+", question.lower()))
    chosen = [
        function
        for function in functions
        if asked & set(re.findall(r"[a-z0-9]+", str(function.get("name")).lower()))
    ]
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        chosen = [function for function in functions if function.get("name") == named]
    elif choice == "required":
        chosen = chosen or functions
    if not chosen:
        return None
    return str(chosen[0].get("name")), chosen[0].get("parameters") or {"type": "object"}
