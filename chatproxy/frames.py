"""Read the gateway's event stream just closely enough: pass frames on, find usage and errors.

A read from the network is almost always a whole number of ``data: {…}\\n\\n`` frames without
anything special in them; a handful of byte searches establish that, and the very same bytes go
out. Everything else (frames cut anywhere, CRLF, comments, several data lines, usage, errors, the
end) takes the slow road, frame by frame.
"""

import logging
import re
from typing import Any

import orjson

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
SPECIAL = re.compile(rb'"usage"|\{"error"|\[DONE\]|\r')
# A frame that does not end within this many bytes is no frame of ours.
LONGEST_FRAME = 8 * 1024 * 1024
# LiteLLM writes compact JSON; so do we when we look at what we wrote.
FINISH = re.compile(rb'"finish_reason":\s*"')
ROLE = b'"role":"assistant",'
# Two line ends in a row. Atomic, or "\r\n" alone would count as two.
FRAME_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
# English prose and code come to about four bytes a token with every current tokenizer.
BYTES_PER_TOKEN = 4


class FrameTooLong(Exception):
    """The upstream sent no frame end for LONGEST_FRAME bytes."""


class Frames:
    """One stream. Feed what arrives, send on what comes out; the attributes tell what it was."""

    __slots__ = (
        "_first",
        "_keeps_usage",
        "_last",
        "_response_id",
        "_tail",
        "done",
        "error",
        "frames",
        "malformed",
        "usage",
        "wire_bytes",
    )

    def __init__(self, *, keeps_usage: bool) -> None:
        self._keeps_usage = keeps_usage
        self._tail = b""
        self._first = b""
        self._response_id = ""
        # The latest frames passed on, for questions that only come up at the end.
        self._last = b""
        self.frames = 0
        self.wire_bytes = 0
        self.malformed = 0
        self.done = False
        self.usage: dict[str, Any] | None = None
        # The gateway's error object, for the log and the decision; never passed on.
        self.error: dict[str, Any] | None = None

    def pass_plain(self, data: bytes) -> bool:
        """Count these bytes as passed on if they are whole frames without anything special."""
        if self._tail or b'"usage"' in data or not (count := _plain(data)):
            return False
        self._count(data, count)
        return True

    def feed(self, data: bytes) -> bytes:
        """What of this, and of what was held back, goes to the client now: whole frames only."""
        if self.pass_plain(data):
            return data
        if self._tail:
            return self._slowly(data)
        # Plain frames first and then the end, most often.
        cut = data.rfind(b"\n\n", 0, _first_special(data)) + 2
        if cut > 1 and self.pass_plain(head := data[:cut]):
            return head + self._slowly(data[cut:])
        return self._slowly(data)

    @property
    def has_finished(self) -> bool:
        """The model said that it is done, whatever happened to the rest of the stream."""
        return self.usage is not None or FINISH.search(self._last) is not None

    def delivered_tokens(self) -> int:
        """An estimate of the completion tokens passed on so far.

        Providers send one token a frame or several: so at least one for each frame with content,
        and at least what the bytes come to.
        """
        if not self.frames:
            return 0
        frames, size = self.frames, self.wire_bytes
        first = self._first
        frame_overhead = len(first) - _content_size(self._first_chunk())
        is_role_first = False
        if ROLE in first:  # only the first frame names it
            frame_overhead -= len(ROLE)
            size -= len(ROLE)
            is_role_first = b'"content":""' in first
        if FINISH.search(self._last):  # the last frame says that, and nothing else
            frames -= 1
            size -= len(self._last) - self._last.rfind(b"\n\n", 0, -2) - 2
        if frames <= 0:
            return 0
        content = max(0, size - frames * frame_overhead)
        return max(frames - is_role_first, -(-content // BYTES_PER_TOKEN))

    @property
    def response_id(self) -> str:
        """The answer's own id, as its first frame or the one with the usage tells it."""
        return self._response_id or str(self._first_chunk().get("id") or "")[:128]

    def _count(self, data: bytes, count: int) -> None:
        if not self.frames:
            self._first = data[: data.find(b"\n\n") + 2]
        self._last = data
        self.wire_bytes += len(data)
        self.frames += count

    def _first_chunk(self) -> dict[str, Any]:
        try:
            chunk = orjson.loads(self._first[6:])
        except orjson.JSONDecodeError:
            return {}
        return chunk if isinstance(chunk, dict) else {}

    def _slowly(self, data: bytes) -> bytes:
        # What was held back has been searched, but for a frame end cut by the read.
        searched = max(0, len(self._tail) - 3)
        data = self._tail + data
        out = []
        start = 0
        for end in FRAME_END.finditer(data, searched):
            if passed := self._frame(data[start : end.start()]):
                out.append(passed)
            start = end.end()
        self._tail = data[start:]
        if len(self._tail) > LONGEST_FRAME:
            raise FrameTooLong
        return b"".join(out)

    def _frame(self, frame: bytes) -> bytes:
        """One frame without its end; what goes on of it, normalised."""
        if self.done or not frame.strip():
            return b""
        lines = frame.splitlines()
        parts = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not parts:
            # Comments keep connections alive; other fields mean nothing in this protocol.
            return frame + b"\n\n" if frame.startswith(b":") else b""
        text = b"\n".join(parts)
        if text.strip() == b"[DONE]":
            self.done = True
            return b""
        try:
            chunk = orjson.loads(text)
        except orjson.JSONDecodeError:
            chunk = None
        if not isinstance(chunk, dict):
            self.malformed += 1
            logger.warning("The gateway sent a frame that is no JSON object, left out")
            return b""
        return self._chunk(chunk, text)

    def _chunk(self, chunk: dict[str, Any], text: bytes) -> bytes:
        if chunk.get("error"):
            error = chunk["error"]
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return b""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
            self._response_id = str(chunk.get("id") or "")[:128]
            if not self._keeps_usage:
                if not chunk.get("choices"):
                    return b""
                del chunk["usage"]
                text = orjson.dumps(chunk)
        if b"\n" in text:
            text = orjson.dumps(chunk)
        passed = b"data: " + text + b"\n\n"
        self._count(passed, 1)
        return passed


def _plain(data: bytes) -> int:
    """How many frames these are, if nothing else than whole ``data: {…}`` frames; else 0."""
    if not data.startswith(b'data: {"') or not data.endswith(b"}\n\n"):
        return 0
    count = data.count(b"\n\n")
    if count > 1 and data.count(b"}\n\ndata: {") != count - 1:
        return 0
    return 0 if b'data: {"error"' in data else count


def _first_special(data: bytes) -> int:
    """Where the first thing is that needs a closer look.

    JSON escapes quotes, so text that merely talks of such things does not match.
    """
    found = SPECIAL.search(data)
    return len(data) if found is None else found.start()


def _content_size(chunk: dict[str, Any]) -> int:
    size = 0
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        content = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(content, str):
            size += len(orjson.dumps(content)) - 2
    return size
