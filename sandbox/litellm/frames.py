"""Chat answers on the wire: server-sent frames and the whole object, as LiteLLM writes them."""

from typing import Any

import orjson

from sandbox.litellm.replies import Choice

DONE = b"data: [DONE]\n\n"
TAIL = b"}}]}\n\n"
TOOL_TAIL = b"}}]}}]}\n\n"


class Stream:
    """The frames of one stream: made by joining bytes, as thousands a second are."""

    def __init__(self, answer_id: str, created: int, model: str) -> None:
        self.answer_id = answer_id
        self.created = created
        self.model = model
        self.base = (
            b'data: {"id":"%s","object":"chat.completion.chunk","created":%d,"model":%s,"choices":'
            % (answer_id.encode(), created, orjson.dumps(model))
        )

    def frames(self, number: int, choice: Choice) -> list[bytes]:
        """One frame a token; the first also tells the role."""
        head = b'%s[{"index":%d,"delta":{' % (self.base, number)
        if choice.tool is not None:
            return self._tool_frames(head, choice)
        content = head + b'"content":'
        frames = [content + piece + TAIL for _, piece in choice.pieces]
        first = head + b'"role":"assistant","content":'
        frames[:1] = [first + (choice.pieces[0][1] if choice.pieces else b'""') + TAIL]
        return frames

    def _tool_frames(self, head: bytes, choice: Choice) -> list[bytes]:
        name, call_id = choice.tool or ("", "")
        opening = orjson.dumps(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "index": 0,
                        "id": call_id,
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    }
                ],
            }
        )
        part = head + b'"tool_calls":[{"index":0,"function":{"arguments":'
        first = head[:-1] + opening + b"}]}\n\n"
        return [first, *[part + piece + b"}}]}}]}\n\n" for _, piece in choice.pieces]]

    def finish(self, number: int, reason: str) -> bytes:
        return b'%s[{"index":%d,"delta":{},"finish_reason":"%s"}]}\n\n' % (
            self.base,
            number,
            reason.encode(),
        )

    def usage(self, usage: dict[str, Any], cost: float) -> bytes:
        """1.106 sends an empty delta with it, 1.109 no choice at all."""
        frame = {
            "id": self.answer_id,
            "created": self.created,
            "model": self.model,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {}}],
            "usage": {
                **usage,
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "text_tokens": usage["completion_tokens"],
                },
                "cost": cost,
            },
        }
        return b"data: " + orjson.dumps(frame) + b"\n\n"


def whole(
    answer_id: str, created: int, model: str, choices: list[Choice], usage: dict[str, Any]
) -> bytes:
    return orjson.dumps(
        {
            "id": answer_id,
            "created": created,
            "model": model,
            "object": "chat.completion",
            "choices": [_choice(number, choice) for number, choice in enumerate(choices)],
            "usage": usage,
        }
    )


def _choice(number: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"content": choice.text, "role": "assistant"}
    if choice.tool is not None:
        name, call_id = choice.tool
        function = {"name": name, "arguments": choice.text}
        call = {"id": call_id, "type": "function", "function": function}
        message = {"content": None, "role": "assistant", "tool_calls": [call]}
    return {"finish_reason": choice.finish_reason, "index": number, "message": message}
