"""What load tests share: a server process that can be looked into, and asyncio clients of its HTTP side.

Only the standard library, so that the soak runs wherever Python does.
SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import collections
import json
import re
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


# gRPC's pools, which grow to a size of their own and stay.
GRPC_THREADS = {"default-executo", "event_engine", "grpc_global_tim", "grpcpp_sync_ser", "nexting_thread", "resolver-execut",
                "timer_manager"}


class Server:
    """thermocline serve MODEL with gRPC and HTTP on free ports of loopback."""

    def __init__(self, program, model, *flags):
        self.process = subprocess.Popen(
            [program, "serve", str(model), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *map(str, flags)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.log, self._log_ended, self._logged = collections.deque(maxlen=1000), False, threading.Condition()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self.grpc = self.wait_for_line(r"listening on (\S+)")
        self.http = self.wait_for_line(r"HTTP on (\S+)")
        host, _, port = self.http.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def _read_log(self):
        for line in self.process.stderr:
            with self._logged:
                self.log.append(line)
                self._logged.notify_all()
        with self._logged:
            self._log_ended = True
            self._logged.notify_all()

    def wait_for_line(self, pattern):
        """The first group of a line that matches; the last lines count, too."""
        with self._logged:
            while True:
                for line in self.log:
                    if found := re.search(pattern, line):
                        return found.group(found.lastindex or 0)
                if self._log_ended:
                    raise AssertionError(f"the server ended before it said {pattern!r}:\n{''.join(self.log)}")
                self._logged.wait()

    def rss_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) << 10

    def threads(self):
        """How many of ours, and how many of gRPC's pools."""
        names = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                names.append((task / "comm").read_text().strip())
            except FileNotFoundError:
                pass  # it has just ended
        pools = sum(name in GRPC_THREADS for name in names)
        return len(names) - pools, pools

    def open_files(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def metrics(self):
        return Metrics((await call(self, "GET", "/metrics")).body.decode())

    async def idle(self):
        """Waits until nothing runs or waits; the metrics of that moment."""
        while True:
            metrics = await self.metrics()
            if metrics.get("vllm:num_requests_running") == metrics.get("vllm:num_requests_waiting") == 0:
                return metrics
            await asyncio.sleep(0.02)


class Metrics:
    """Prometheus text; the label model_name, which every series has, is left out."""

    def __init__(self, text):
        self.text = text
        self.values = {}
        for line in text.splitlines():
            if found := re.fullmatch(r"([\w:]+)\{(.*)\} (\S+)", line):
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found.group(2)))
                labels.pop("model_name")
                self.values[found.group(1), frozenset(labels.items())] = float(found.group(3))

    def get(self, name, **labels):
        return self.values.get((name, frozenset(labels.items())), 0)

    def sum(self, name):
        return sum(value for (found, _), value in self.values.items() if found == name)


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes = b""
    seconds: float = 0  # from the request's first byte to the answer's last

    def json(self):
        return json.loads(self.body)


@dataclass
class Completion:
    """One answer of /v1/completions or /v1/chat/completions, streamed or not."""
    status: int = 0  # 0: this client vanished before the answer's head
    headers: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)  # of each choice
    finish_reasons: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)  # the server's own, of each choice
    usage: dict = None
    error: dict = None
    whole: bool = False  # everything came: [DONE], or all of the body

    @property
    def text(self):
        return self.texts.get(0)


def _head(method, path, body, headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_head(reader):
    status = int((await reader.readline()).split()[1])
    headers = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def _chunks(reader, headers):
    """The body's pieces as they come."""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        yield await reader.readexactly(length)


async def _close(writer):
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # the other side was faster


def vanish(writer):
    """Ends the connection with a reset, as a client whose machine fails does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def call(server, method, path, body=None, headers=None):
    body = json.dumps(body).encode() if body is not None else None
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(_head(method, path, body, headers) + (body or b""))
        answer = Answer(*await _read_head(reader))
        async for chunk in _chunks(reader, answer.headers):
            answer.body += chunk
        answer.seconds = time.monotonic() - began
        return answer
    finally:
        await _close(writer)


async def complete(server, body, path="/v1/completions", headers=None, vanish_after=None, admitted=None):
    """`vanish_after`: this client resets its connection after so many events; -1: before its request is whole.
    `admitted`: an asyncio.Event that is set once the answer's head is there, which for a stream is at once."""
    result = Completion()
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        request = _head("POST", path, data, headers) + data
        writer.write(request[:-1] if vanish_after == -1 else request)
        if vanish_after in (-1, 0):
            await writer.drain()
            vanish(writer)
            return result
        result.status, result.headers = await _read_head(reader)
        if admitted is not None:
            admitted.set()
        if result.headers.get("content-type", "").startswith("text/event-stream"):
            await _read_events(reader, result, vanish_after)
            if vanish_after is not None and not result.whole:
                vanish(writer)
        else:
            _read_whole(b"".join([chunk async for chunk in _chunks(reader, result.headers)]), result)
        return result
    finally:
        await _close(writer)


def _text_of(choice):
    if "text" in choice:
        return choice["text"]
    return (choice.get("message") or choice["delta"]).get("content") or ""


def _read_whole(body, result):
    answer = json.loads(body)
    result.error = answer.get("error")
    result.usage = answer.get("usage")
    for choice in answer.get("choices", []):
        result.texts[choice["index"]] = _text_of(choice)
        result.finish_reasons[choice["index"]] = choice["finish_reason"]
        result.figures[choice["index"]] = choice["thermocline"]
    result.whole = result.error is None


async def _read_events(reader, result, vanish_after):
    pending, events = b"", 0
    async for chunk in _chunks(reader, result.headers):
        pending += chunk
        while b"\n\n" in pending:
            event, pending = pending.split(b"\n\n", 1)
            if event.startswith(b":"):  # a comment keeps the connection alive
                continue
            data = event.removeprefix(b"data: ")
            if data == b"[DONE]":
                result.whole = True
                continue
            _read_event(json.loads(data), result)
            events += 1
            if events == vanish_after:
                return


def _read_event(event, result):
    result.error = event.get("error") or result.error
    result.usage = event.get("usage") or result.usage
    for choice in event.get("choices", []):
        result.texts[choice["index"]] = result.texts.get(choice["index"], "") + _text_of(choice)
        if choice["finish_reason"]:
            result.finish_reasons[choice["index"]] = choice["finish_reason"]
            result.figures[choice["index"]] = choice["thermocline"]


async def in_parallel(limit, jobs):
    """Awaits the coroutines, at most `limit` at a time; their results in order."""
    gate = asyncio.Semaphore(limit)

    async def run(job):
        async with gate:
            return await job

    return await asyncio.gather(*(run(job) for job in jobs))
