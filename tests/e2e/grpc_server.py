"""thermocline serve and clients of it: what the end-to-end tests of gRPC share. Stubs are generated from our protos when imported.

The program's first argument is THERMOCLINE, the second SOURCE_DIR.
SPDX-License-Identifier: Apache-2.0
"""
import importlib
import json
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import grpc

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DEMO = SOURCE / "models" / "demo"
GOLDEN = json.loads((DEMO / "golden.json").read_text())
PROMPT = GOLDEN["cases"][0]["prompt"]
CONTEXT_TOKENS = json.loads((DEMO / "config.json").read_text())["max_position_embeddings"]
SERVING, NOT_SERVING = 1, 2

# What clients know of google.rpc, whose protos Debian does not package.
RPC_PROTO = """
syntax = "proto3";
package google.rpc;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }
message BadRequest {
  message FieldViolation { string field = 1; string description = 2; }
  repeated FieldViolation field_violations = 1;
}
message RetryInfo { google.protobuf.Duration retry_delay = 1; }
"""


def generate_stubs(folder):
    (Path(folder) / "rpc_for_test.proto").write_text(RPC_PROTO)
    subprocess.run(["protoc", f"--proto_path={folder}", f"--python_out={folder}", "rpc_for_test.proto"], check=True)
    subprocess.run(["protoc", f"--proto_path={SOURCE / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                    f"--plugin=protoc-gen-grpc_python={shutil.which('grpc_python_plugin')}",
                    *(f"thermocline/v1/{name}.proto" for name in ["admin", "completion", "plan"])], check=True)
    sys.path.insert(0, folder)
    names = ["completion_pb2", "completion_pb2_grpc", "admin_pb2", "admin_pb2_grpc"]
    return [importlib.import_module(f"thermocline.v1.{name}") for name in names] + [importlib.import_module("rpc_for_test_pb2")]


STUBS = tempfile.TemporaryDirectory()  # removed when the program ends
pb, pb_grpc, admin, admin_grpc, rpc = generate_stubs(STUBS.name)


class Server:
    """thermocline serve models/demo on a free port, with one channel to it."""

    def __init__(self, *flags, credentials=None, metadata=()):
        self.process = subprocess.Popen([PROGRAM, "serve", str(DEMO), "--listen", "127.0.0.1:0", *map(str, flags)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.lines = queue.SimpleQueue()  # its log must not fill the pipe; None at its end
        self.reader = threading.Thread(target=self.read_lines)
        self.reader.start()
        self.address = self.wait_for_line(r"listening on (\S+)").group(1)
        self.channel, self.stub = self.connect(credentials, metadata)
        self.admin = admin_grpc.AdminServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def read_lines(self):
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put(None)

    def open_channel(self, credentials=None):
        # A subchannel of its own: channels to one address otherwise share their connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        if credentials:
            return grpc.secure_channel(self.address, credentials, options=options)
        return grpc.insecure_channel(self.address, options=options)

    def connect(self, credentials=None, metadata=()):
        channel = self.open_channel(credentials)
        stub = pb_grpc.CompletionServiceStub(channel)
        # Calls made before the connection stands go out in any order.
        stub.GetModel(pb.GetModelRequest(), timeout=60, metadata=metadata)
        return channel, stub

    def wait_for_line(self, pattern):
        while (line := self.lines.get(timeout=120)) is not None:
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"the server ended with {self.process.wait()} before it said {pattern!r}")

    def health(self, service):
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = check(b"\x0a" + bytes([len(service)]) + service.encode(), timeout=60)
        return answer[1] if answer else 0  # field 1, a number


def request(text=PROMPT, max_tokens=16, kind=None, **fields):
    stopping = pb.StoppingOptions(max_tokens=max_tokens, ignore_eos=fields.pop("ignore_eos", False), stop=fields.pop("stop", []))
    return (kind or pb.CompleteRequest)(text=text, stopping=stopping, **fields)


def long_stream(stub, **options):
    """As long a completion as the context takes."""
    return stub.StreamComplete(request(max_tokens=None, ignore_eos=True, kind=pb.StreamCompleteRequest), **options)


def gather(stream):
    messages = list(stream)
    deltas = [m.delta for m in messages[:-1]]
    assert all(m.WhichOneof("event") == "delta" for m in messages[:-1]), messages
    assert messages[-1].WhichOneof("event") == "summary", messages
    return "".join(d.text for d in deltas), [i for d in deltas for i in d.token_ids], messages[-1].summary


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def detail(metadata, kind):
    """The error's detail of that google.rpc type."""
    status = rpc.Status.FromString(metadata["grpc-status-details-bin"])
    message = kind()
    for any_detail in status.details:
        if any_detail.Unpack(message):
            return message
    raise AssertionError(f"no {kind.DESCRIPTOR.name} in {status}")


class RefusalsTestCase(unittest.TestCase):
    def refused(self, code, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        self.assertEqual(error.code(), code, error.details())
        return error.details(), dict(error.trailing_metadata() or ())
