#!/usr/bin/env python3
"""Our protos keep buf's STANDARD rules, and break none of the clients of the last release.

usage: proto_test.py SOURCE_DIR
proto/baseline.binpb holds the protos as of the last release; proto/README.md says how it is made. buf comes from the virtual
environment of scripts/fetch-test-clients.sh, whose interpreter THERMOCLINE_TEST_PYTHON names; without it the tests are skipped.
SPDX-License-Identifier: Apache-2.0
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROTO = Path(sys.argv[1]) / "proto"
BUF = Path(os.environ.get("THERMOCLINE_TEST_PYTHON", "")).parent / "buf"


def buf(*arguments):
    return subprocess.run([BUF, *map(str, arguments)], capture_output=True, text=True, timeout=120)


@unittest.skipUnless(BUF.is_file(), "THERMOCLINE_TEST_PYTHON names no environment with buf")
class Protos(unittest.TestCase):
    def test_lint(self):
        result = buf("lint", PROTO)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_breaks_no_client_of_the_last_release(self):
        result = buf("breaking", PROTO, "--against", PROTO / "baseline.binpb")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_what_breaks_clients_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "proto"
            shutil.copytree(PROTO, copy)
            messages = copy / "thermocline" / "v1" / "completion.proto"
            text = messages.read_text()
            self.assertIn("string matched_stop = 2;", text)
            messages.write_text(text.replace("string matched_stop = 2;", "string matched_stop = 200;"))
            result = buf("breaking", copy, "--against", PROTO / "baseline.binpb")
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("matched_stop", result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
