"""`python -m bench.lib.upstream PORT CHUNKS SECONDS`: a gateway that costs next to nothing.

Answers every request with an event stream of CHUNKS frames, SECONDS apart, and the usage; each
frame is a write of its own, as tokens are.
"""

import asyncio
import sys

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-litellm-model-group: basic-chat\r\ntransfer-encoding: chunked\r\n\r\n"
)
START = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'


def frame(data: bytes) -> bytes:
    body = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(body), body)


def token(n: int) -> bytes:
    text = b'{"index":0,"delta":{"content":"tok%d "}}' % n
    return frame(START + b'"model":"basic-chat","choices":[' + text + b"]}")


LAST = [
    frame(
        START + b'"model":"basic-chat","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    )
    + frame(
        START + b'"model":"basic-chat","choices":[],"usage":{"prompt_tokens":11,'
        b'"completion_tokens":20,"total_tokens":31,"cost":0.00005}}'
    )
    + frame(b"[DONE]")
    + b"0\r\n\r\n"
]
ROLE = frame(
    START
    + b'"model":"basic-chat","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
)


class Gateway(asyncio.Protocol):
    chunks: list[bytes] = []
    pause = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self.pending = b""
        self.loop = asyncio.get_running_loop()
        self.closed = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def data_received(self, data: bytes) -> None:
        self.pending += data
        head, separator, body = self.pending.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.split(b"\r\n"):
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        if len(body) < length:
            return
        self.pending = body[length:]
        self.transport.write(HEAD + self.chunks[0])
        self.due = self.loop.time()
        self.send(1)

    def send(self, n: int) -> None:
        if self.closed:
            return
        if n > 1:
            self.transport.write(self.chunks[n - 1])
        if n < len(self.chunks):
            # On a grid, so that a late chunk does not make all others late.
            self.due += self.pause
            self.loop.call_at(self.due, self.send, n + 1)


async def main(port: int, chunks: int, pause: float) -> None:
    Gateway.chunks = [ROLE, *(token(n) for n in range(chunks - 2)), *LAST]
    Gateway.pause = pause
    server = await asyncio.get_running_loop().create_server(
        Gateway, "127.0.0.1", port, backlog=8192
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
