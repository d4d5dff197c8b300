#!/usr/bin/env python3
"""The HTTP server as its users' programs see it: curl, and the unmodified openai package.

usage: openai_client_test.py THERMOCLINE SOURCE_DIR
The openai package comes from the virtual environment of scripts/fetch-test-clients.sh, whose interpreter
THERMOCLINE_TEST_PYTHON names; without it the tests that need it are skipped.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

try:
    import openai
except ImportError:
    interpreter = os.environ.get("THERMOCLINE_TEST_PYTHON")
    if interpreter and Path(sys.prefix) != Path(interpreter).parent.parent:
        os.execv(interpreter, [interpreter, *sys.argv])
    openai = None

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DEMO = SOURCE / "models" / "demo"
GOLDEN = json.loads((DEMO / "golden.json").read_text())
PROMPT = GOLDEN["cases"][0]["prompt"]
KEY = "key-of-the-end-to-end-test"


class Server:
    """thermocline serve models/demo with HTTP on a free port, for clients that know the key."""

    def __init__(self, *flags):
        self.folder = tempfile.TemporaryDirectory()
        keys = Path(self.folder.name) / "keys"
        keys.write_text(f"tester:{KEY}\n")
        keys.chmod(0o600)
        self.process = subprocess.Popen(
            [PROGRAM, "serve", str(DEMO), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--api-keys", str(keys), *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stderr:
            if found := re.search(r"HTTP on (\S+)", line):
                self.address = found.group(1)
                break
        assert self.address, f"the server ended with {self.process.wait()}"
        # Its log must not fill the pipe.
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
        self.folder.cleanup()

    def curl(self, path, *arguments, body=None):
        data = ["--json", json.dumps(body)] if body is not None else []
        return subprocess.run(["curl", "-sS", "-N", "--max-time", "60", *arguments, *data, f"http://{self.address}{path}"],
                              capture_output=True, text=True, check=True).stdout


def server_of(test_class, *flags):
    return test_class.enterClassContext(Server(*flags))


class Curl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = server_of(cls)
        cls.bearer = ["-H", f"Authorization: Bearer {KEY}"]

    def test_streams_events(self):
        body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        whole = json.loads(self.server.curl("/v1/completions", *self.bearer, body=body))
        answer = self.server.curl("/v1/completions", "-i", *self.bearer, body=body | {"stream": True})
        head, _, events = answer.partition("\n\n")
        self.assertRegex(head, r"HTTP/1\.1 200 OK")
        self.assertRegex(head, r"(?i)content-type: text/event-stream")
        events = [event.removeprefix("data: ") for event in events.split("\n\n") if event]
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual("".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]), whole["choices"][0]["text"])

    def test_needs_no_key_for_health_and_metrics(self):
        self.assertEqual(json.loads(self.server.curl("/health")), {"status": "ok"})
        self.assertIn('vllm:num_requests_running{model_name="demo"}', self.server.curl("/metrics"))
        self.assertEqual(self.server.curl("/v1/models", "-o", "/dev/null", "-w", "%{http_code}"), "401")

    def test_drains_on_a_signal(self):
        with Server("--shutdown-timeout", "60s") as server:
            body = {"prompt": PROMPT, "max_tokens": 100, "ignore_eos": True, "stream": True}
            stream = subprocess.Popen(["curl", "-sS", "-N", *self.bearer, "--json", json.dumps(body),
                                       f"http://{server.address}/v1/completions"], stdout=subprocess.PIPE, text=True)
            first = stream.stdout.readline()
            server.process.send_signal(signal.SIGTERM)
            self.assertTrue((first + stream.communicate()[0]).endswith("data: [DONE]\n\n"))
            self.assertEqual(server.process.wait(60), 0)


@unittest.skipUnless(openai, "the openai package is not there (scripts/fetch-test-clients.sh)")
class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = server_of(cls)
        cls.client = cls.enterClassContext(openai.OpenAI(base_url=f"http://{cls.server.address}/v1", api_key=KEY, max_retries=0))
        cls.model = "demo"

    def complete(self, **options):
        return self.client.completions.create(**{"model": self.model, "prompt": PROMPT, "temperature": 0, "max_tokens": 16} | options)

    def chat(self, **options):
        messages = [{"role": "system", "content": "Tell stories."}, {"role": "user", "content": PROMPT}]
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 16} | options)

    def test_completions_match_the_goldens(self):
        for case in GOLDEN["cases"]:
            answer = self.complete(prompt=case["prompt"], max_tokens=len(case["greedy_ids"]))
            self.assertEqual(answer.choices[0].text.removeprefix(" "), case["text"])
            self.assertEqual(answer.usage.prompt_tokens, len(case["prompt_ids"]))

    def test_streams_are_the_whole_answer(self):
        for create, text_of in [(self.complete, lambda choice: choice.text),
                                (self.chat, lambda choice: choice.delta.content or "")]:
            whole = create()
            chunks = list(create(stream=True, stream_options={"include_usage": True}))
            self.assertEqual(chunks[-1].usage, whole.usage.model_copy(update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}))
            self.assertEqual(chunks[-1].choices, [])
            text = "".join(text_of(chunk.choices[0]) for chunk in chunks[:-1])
            self.assertEqual(text, whole.choices[0].text if create == self.complete else whole.choices[0].message.content)
            self.assertEqual(chunks[-2].choices[0].finish_reason, whole.choices[0].finish_reason)

    def test_choices_and_seeds(self):
        answer = self.complete(n=3, seed=7, temperature=1, max_tokens=12)
        again = self.complete(n=1, seed=8, temperature=1, max_tokens=12)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertEqual(answer.choices[1].text, again.choices[0].text)

    def test_prompts_of_token_ids(self):
        case = GOLDEN["cases"][0]
        answer = self.complete(prompt=[case["prompt_ids"], case["prompt_ids"]], max_tokens=8)
        self.assertEqual(answer.choices[0].text, answer.choices[1].text)

    def test_logprobs(self):
        legacy = self.complete(logprobs=2, max_tokens=4).choices[0]
        self.assertEqual("".join(legacy.logprobs.tokens), legacy.text)
        self.assertEqual(len(legacy.logprobs.top_logprobs[0]), 2)
        self.assertEqual(legacy.logprobs.text_offset[1], len(legacy.logprobs.tokens[0]))
        chat = self.chat(logprobs=True, top_logprobs=3, max_tokens=4).choices[0]
        self.assertEqual(bytes(byte for entry in chat.logprobs.content for byte in entry.bytes).decode(), chat.message.content)
        for entry in chat.logprobs.content:
            self.assertEqual(entry.top_logprobs[0].logprob, entry.logprob)

    def test_stop_and_own_fields(self):
        text = self.complete().choices[0].text
        stop = text.split()[2]
        answer = self.complete(stop=[stop], extra_body={"quality": "exact", "min_p": 0.0})
        self.assertEqual(answer.choices[0].text, text[:text.index(stop)])
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        own = answer.choices[0].model_extra["thermocline"]
        self.assertEqual(own["matched_stop"], stop)
        self.assertGreater(own["timings"]["time_to_first_token_ms"], 0)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], [self.model])
        self.assertEqual(self.client.models.retrieve(self.model).owned_by, "thermocline")

    def test_errors_are_the_packages_own(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete(temperature=-1)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.complete(model="gpt-4")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete(prompt=PROMPT * 500)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(response_format={"type": "json_object"})
        self.assertEqual(caught.exception.param, "response_format")
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="another-key-than-that").models.list()

    def test_request_ids(self):
        answer = self.client.completions.with_raw_response.create(
            model=self.model, prompt=PROMPT, max_tokens=1, extra_headers={"x-request-id": "mine-1"})
        self.assertEqual(answer.headers["x-request-id"], "mine-1")
        self.assertEqual(answer.parse().id, "cmpl-mine-1")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
