"""An OpenAI-shaped endpoint on loopback that answers as it was told to."""

import asyncio
from contextlib import asynccontextmanager

import orjson


def completion(text="hi", **more):
    return orjson.dumps({"choices": [{"message": {"content": text}}], **more})


@asynccontextmanager
async def served(*answers):
    """A server that gives these (status, headers, body) in turn, the last one for ever; and what it was asked.

    An answer may be a function of the request.
    """
    asked = []

    async def serve(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                named = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
                length = int(named[b"content-length"])
                asked.append((head.decode(), orjson.loads(await reader.readexactly(length))))
                answer = answers[min(len(asked), len(answers)) - 1]
                status, headers, body = answer(asked[-1][1]) if callable(answer) else answer
                lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1", asked
    finally:
        server.close()
