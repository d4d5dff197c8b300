#!/usr/bin/env python3
"""docs/openapi.yaml against the server: routes, request fields and answers are the ones that there are.

usage: openapi_test.py THERMOCLINE SOURCE_DIR
Its packages come from the virtual environment of scripts/fetch-test-clients.sh, whose interpreter THERMOCLINE_TEST_PYTHON
names; without it nothing is tested.
SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import http.client
import json
import os
import re
import sys
import unittest
from pathlib import Path

from load_client import Server, call

try:
    import openapi_spec_validator
    import yaml
    from jsonschema import Draft202012Validator
except ImportError:
    interpreter = os.environ.get("THERMOCLINE_TEST_PYTHON")
    if interpreter and Path(sys.prefix) != Path(interpreter).parent.parent:
        os.execv(interpreter, [interpreter, *sys.argv])
    openapi_spec_validator = None

PROGRAM, SOURCE = sys.argv[1], Path(sys.argv[2])
DOCUMENT = SOURCE / "docs" / "openapi.yaml"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
MESSAGES = {"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 4, "temperature": 0}
# No field of a request takes an object with such a member.
NOTHING_TAKES = {"surely-no-field": 1}


def names_in(file, pattern):
    return set(re.findall(pattern, (SOURCE / "server" / file).read_text()))


@unittest.skipUnless(openapi_spec_validator, "the packages are not there (scripts/fetch-test-clients.sh)")
class OpenApi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = yaml.safe_load(DOCUMENT.read_text())
        cls.schemas = cls.document["components"]["schemas"]
        cls.server = cls.enterClassContext(Server(PROGRAM, SOURCE / "models" / "demo", "--request-traces", "1"))

    def call(self, method, path, body=None):
        return asyncio.run(call(self.server, method, path, body))

    def head_of(self, method, path):
        """Status and headers; some answers never end."""
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        try:
            body = ("{}", {"Content-Type": "application/json"}) if method == "POST" else (None, {})
            connection.request(method, path, *body)
            answer = connection.getresponse()
            return answer.status, answer.headers
        finally:
            connection.close()

    def schema_of(self, path, method, status="200", kind="application/json"):
        response = self.document["paths"][path][method]["responses"][status]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return response["content"][kind]["schema"]

    def check(self, instance, schema):
        # The schema beside the components that its references name.
        Draft202012Validator({"components": self.document["components"], **schema}).validate(instance)

    def fields_of(self, schema):
        """Top-level fields of a request's schema."""
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        fields = dict(schema.get("properties", {}))
        for part in schema.get("allOf", []):
            fields |= self.fields_of(part)
        return fields

    def nested_names(self, schema):
        """Names of all properties in a schema, at any depth."""
        names = set()
        if isinstance(schema, dict):
            if "$ref" in schema:
                return self.nested_names(self.schemas[schema["$ref"].rpartition("/")[2]])
            names |= set(schema.get("properties", {}))
            for key, value in schema.items():
                if key == "properties":
                    for part in value.values():
                        names |= self.nested_names(part)
                elif key not in ("required", "enum", "description"):
                    names |= self.nested_names(value)
        elif isinstance(schema, list):
            for part in schema:
                names |= self.nested_names(part)
        return names

    def test_document_is_openapi(self):
        openapi_spec_validator.validate(self.document)

    def test_routes_are_the_servers(self):
        table = (SOURCE / "server" / "openai_service.cc").read_text()
        known = {("/v1/models/{model}" if path == "/v1/models/" else path, "post" if post == "true" else "get")
                 for path, post in re.findall(r'\{"(/[\w/]*)", (true|false), [^{}]*&OpenAiService::', table)}
        documented = {(path, method) for path, methods in self.document["paths"].items() for method in methods}
        self.assertEqual(documented, known)
        for path, method in documented:
            status, headers = self.head_of(method.upper(), path.replace("{model}", "demo"))
            self.assertEqual(status, 400 if method == "post" else 200, path)
            if method == "get":
                self.assertIn(headers["content-type"].partition(";")[0], self.document["paths"][path]["get"]["responses"]["200"]["content"])
            status, headers = self.head_of("GET" if method == "post" else "POST", path.replace("{model}", "demo"))
            self.assertEqual(status, 405, path)
            self.assertIn(method.upper(), headers["allow"])

    def test_fields_are_those_that_the_server_reads(self):
        """What the sources read, against what the document has."""
        reads = r'(?:Read|Find|Has)\("(\w+)"'
        known = (names_in("openai_request.cc", reads) | names_in("openai_messages.cc", reads) | names_in("openai_service.cc", reads)
                 | names_in("openai_unsupported.cc", r'\n      \{"(\w+)", ') | {"max_tokens"})
        documented = set()
        for methods in self.document["paths"].values():
            for operation in methods.values():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    documented |= self.nested_names(content["schema"])
        self.assertEqual(documented, known)

    def test_the_server_reads_every_field(self):
        """A value of no type that a field has is refused under the field's name."""
        complete = {"/v1/completions": PROMPT, "/v1/chat/completions": MESSAGES, "/tokenize": {"prompt": "x"}, "/detokenize": {"tokens": [5]}}
        for path, body in complete.items():
            schema = self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            for name in self.fields_of(schema):
                needed = {"messages": [{"role": "user", "content": "x"}]} if name == "add_generation_prompt" else {}
                if name == "stream_options":
                    needed = {"stream": True}
                wrong = 7 if name in ("logit_bias", "stream_options") else NOTHING_TAKES
                answer = self.call("POST", path, body | needed | {name: wrong})
                self.assertEqual((answer.status, answer.json()["error"]["param"]), (400, name), (path, answer.body))
        answer = self.call("POST", COMPLETIONS, PROMPT | {"stream": True, "stream_options": {"include_usage": 7}})
        self.assertEqual(answer.json()["error"]["param"], "stream_options.include_usage")

    def test_limits_are_the_servers(self):
        """One below a field's least value and one above its greatest are refused, both ends are not."""
        for path, body in [(COMPLETIONS, PROMPT), (CHAT, MESSAGES | {"logprobs": True})]:
            schema = self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            for name, field in self.fields_of(schema).items():
                good = [field[end] for end in ("minimum", "maximum") if end in field]
                bad = [field[end] + step for end, step in [("minimum", -1), ("maximum", 1)] if end in field]
                bad += [field["exclusiveMinimum"]] if "exclusiveMinimum" in field else []
                for value in bad:
                    answer = self.call("POST", path, body | {name: value})
                    self.assertEqual((answer.status, answer.json()["error"]["param"]), (400, name), (name, value))
                for value in good:
                    # The most choices, each of which the queue must take, are another test's.
                    answer = self.call("POST", path, body | {name: value}) if name != "n" or value == 1 else None
                    self.assertTrue(answer is None or answer.status == 200, (name, value, answer and answer.body))

    def test_answers_are_as_described(self):
        for body in [PROMPT, PROMPT | {"n": 2, "logprobs": 2, "temperature": 1}, PROMPT | {"max_tokens": 1, "stop": ["zzz"]}, PROMPT | {"trace": True}]:
            self.check(self.call("POST", COMPLETIONS, body).json(), self.schema_of(COMPLETIONS, "post"))
        for body in [MESSAGES, MESSAGES | {"logprobs": True, "top_logprobs": 2}]:
            self.check(self.call("POST", CHAT, body).json(), self.schema_of(CHAT, "post"))
        for path, body in [(COMPLETIONS, PROMPT | {"logprobs": 1}), (CHAT, MESSAGES | {"logprobs": True})]:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            *events, last = self.call("POST", path, body).body.decode().rstrip("\n").split("\n\n")
            self.assertEqual(last, "data: [DONE]")
            self.assertGreater(len(events), 3)
            for event in events:
                self.check(json.loads(event.removeprefix("data: ")), self.schema_of(path, "post", kind="text/event-stream"))
        for path, body in [("/tokenize", {"prompt": "x"}), ("/tokenize", {"messages": MESSAGES["messages"]}), ("/detokenize", {"tokens": [5]})]:
            self.check(self.call("POST", path, body).json(), self.schema_of(path, "post"))
        for path in ["/v1/models", "/health"]:
            self.check(self.call("GET", path).json(), self.schema_of(path, "get"))
        self.check(self.call("GET", "/v1/models/demo").json(), self.schema_of("/v1/models/{model}", "get"))
        self.check(self.call("GET", "/v1/models/other").json(), self.schema_of("/v1/models/{model}", "get", "404"))
        self.check(self.call("POST", COMPLETIONS, {"prompt": ""}).json(), self.schema_of(COMPLETIONS, "post", "400"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
