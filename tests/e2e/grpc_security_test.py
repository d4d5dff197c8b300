#!/usr/bin/env python3
"""Keys and certificates of the server, with Debian's grpcio and openssl's certificates.

usage: grpc_security_test.py THERMOCLINE SOURCE_DIR
SPDX-License-Identifier: Apache-2.0
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import grpc

from grpc_server import CONTEXT_TOKENS, DEMO, PROGRAM, PROMPT, SERVING, RefusalsTestCase, Server, admin, admin_grpc, pb_grpc, request, run


class Identity:
    """A key and its certificate for 127.0.0.1, signed by an authority or by itself."""

    def __init__(self, folder, name, authority=None):
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        signing = ["-CA", authority.certificate, "-CAkey", authority.key] if authority else []
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-addext", f"basicConstraints=critical,CA:{'FALSE' if authority else 'TRUE'}",
                        *signing, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)

    def credentials(self, authority, shown=True):
        pair = (self.key.read_bytes(), self.certificate.read_bytes()) if shown else (None, None)
        return grpc.ssl_channel_credentials(authority.certificate.read_bytes(), *pair)


class Security(RefusalsTestCase):
    USER, ADMIN = "user-key-0123456789", "admin-key-0123456789"

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.users, self.admins = self.key_file("users", self.USER), self.key_file("admins", self.ADMIN)

    def key_file(self, name, key):
        path = self.folder / name
        path.write_text(key + "\n")
        path.chmod(0o600)
        return path

    @staticmethod
    def bearer(key):
        return [("authorization", f"Bearer {key}")]

    def code(self, server, credentials=None, metadata=(), admin_call=False):
        """How a call on a connection of its own ends."""
        with server.open_channel(credentials) as channel:
            try:
                if admin_call:
                    admin_grpc.AdminServiceStub(channel).GetStats(admin.GetStatsRequest(), timeout=60, metadata=metadata)
                else:
                    pb_grpc.CompletionServiceStub(channel).Complete(request(max_tokens=1), timeout=60, metadata=metadata)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    def test_keys(self):
        ok, unknown, denied = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
        with Server("--api-keys", self.users, "--admin-keys", self.admins, metadata=self.bearer(self.USER)) as server:
            for metadata, completion, figures in [((), unknown, unknown),
                                                  (self.bearer("wrong-key-0123456789"), unknown, unknown),
                                                  (self.bearer(self.USER), ok, denied),
                                                  (self.bearer(self.ADMIN), ok, ok)]:
                self.assertEqual(self.code(server, metadata=metadata), completion, metadata)
                self.assertEqual(self.code(server, metadata=metadata, admin_call=True), figures, metadata)
            self.assertEqual(server.health(""), SERVING)  # needs no key
        with Server("--api-keys", self.users, metadata=self.bearer(self.USER)) as server:
            self.assertEqual(self.code(server, metadata=self.bearer(self.USER), admin_call=True), denied)

    def test_mutual_tls_and_reload(self):
        authority, stranger = Identity(self.folder, "authority"), Identity(self.folder, "stranger")
        served, client = Identity(self.folder, "server", authority), Identity(self.folder, "client", authority)
        strange_client = Identity(self.folder, "strange", stranger)
        good = client.credentials(authority)
        with Server("--tls-cert", served.certificate, "--tls-key", served.key, "--tls-client-ca", authority.certificate,
                    "--api-keys", self.users, credentials=good, metadata=self.bearer(self.USER)) as server:
            ok, unavailable, key = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, self.bearer(self.USER)
            self.assertEqual(self.code(server, good, key), ok)
            self.assertEqual(self.code(server, good), grpc.StatusCode.UNAUTHENTICATED)
            for wrong in [None, client.credentials(authority, shown=False), strange_client.credentials(authority),
                          client.credentials(stranger)]:
                self.assertEqual(self.code(server, wrong, key), unavailable)

            # New keys and another certificate at SIGHUP; a bad file keeps the old.
            self.key_file("users", "newer-key-0123456789")
            for old, new in zip([served.certificate, served.key],
                                [(other := Identity(self.folder, "other", stranger)).certificate, other.key]):
                old.write_bytes(new.read_bytes())
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_line(r'"reloaded".*grpc certificates')
            self.assertEqual(self.code(server, good, key), unavailable)
            self.assertEqual(self.code(server, client.credentials(stranger), key), grpc.StatusCode.UNAUTHENTICATED)
            key = self.bearer("newer-key-0123456789")
            self.assertEqual(self.code(server, client.credentials(stranger), key), ok)
            served.key.write_text("nonsense")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_line(r'"not_reloaded".*grpc certificates')
            self.assertEqual(self.code(server, client.credentials(stranger), key), ok)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=120), 0)

    def test_tls_alone_asks_clients_for_nothing(self):
        served = Identity(self.folder, "server")
        trusting = grpc.ssl_channel_credentials(served.certificate.read_bytes())
        with Server("--tls-cert", served.certificate, "--tls-key", served.key, credentials=trusting) as server:
            self.assertEqual(self.code(server, trusting), grpc.StatusCode.OK)
            self.assertEqual(self.code(server), grpc.StatusCode.UNAVAILABLE)  # in the clear

    def complete(self, server, *flags, **variables):
        return subprocess.run([PROGRAM, "complete", "--server", server.address, "--prompt", PROMPT, "--max-tokens", "3", *map(str, flags)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env={**os.environ, **variables})

    def test_complete_shows_certificate_and_key(self):
        authority, stranger = Identity(self.folder, "authority"), Identity(self.folder, "stranger")
        served, client = Identity(self.folder, "server", authority), Identity(self.folder, "client", authority)
        trusting = ("--tls-ca", authority.certificate)
        shown = (*trusting, "--tls-cert", client.certificate, "--tls-key", client.key)
        with Server("--tls-cert", served.certificate, "--tls-key", served.key, "--tls-client-ca", authority.certificate,
                    "--api-keys", self.users, credentials=client.credentials(authority), metadata=self.bearer(self.USER)) as server:
            from_file = self.complete(server, *shown, "--api-key-file", self.users)
            self.assertEqual(from_file.returncode, 0, from_file.stderr)
            self.assertTrue(from_file.stdout.strip())
            from_variable = self.complete(server, *shown, "--api-key-env", "KEY_OF_MINE", KEY_OF_MINE=self.USER)
            self.assertEqual(from_variable.stdout, from_file.stdout)
            for flags, code, said in [((*shown,), 1, "key"),  # none is shown
                                      ((*shown, "--api-key-env", "KEY_OF_MINE"), 2, "KEY_OF_MINE"),
                                      ((*shown, "--api-key-file", self.folder / "none"), 1, "none"),
                                      ((*shown, "--api-key-file", self.key_file("blank", "")), 1, "blank"),
                                      ((*shown, "--api-key-file", self.key_file("wrong", "wrong-key-0123456789")), 1, "key"),
                                      ((*shown, "--api-key-file", self.key_file("odd", "wrong-key\x01")), 2, "characters"),
                                      ((*trusting, "--tls-cert", client.certificate), 2, "--tls-key"),
                                      (("--tls-cert", client.certificate, "--tls-key", client.key), 2, "--tls-ca"),
                                      (("--tls-ca", self.folder / "none"), 1, "none"),
                                      (("--tls-ca", self.users), 1, "PEM"),
                                      # How the last handshakes fail is the library's to say.
                                      (("--api-key-file", self.users), 1, server.address),
                                      ((*trusting, "--api-key-file", self.users), 1, server.address),
                                      ((*shown[2:], "--tls-ca", stranger.certificate, "--api-key-file", self.users), 1, server.address)]:
                refused = self.complete(server, *flags)
                self.assertEqual(refused.returncode, code, (flags, refused.stderr))
                self.assertIn(said, refused.stderr.splitlines()[-1], flags)
                self.assertNotIn("wrong-key", refused.stderr)

    def test_bad_flags(self):
        for flags, code, said in [(("--tls-cert", "x.pem"), 2, "tls_key"),
                                  (("--tls-cert", "x.pem", "--tls-key", "y.pem"), 1, "x.pem"),
                                  (("--api-keys", self.folder / "none"), 1, "none"),
                                  (("--max-running", "0"), 2, "--max-running"),
                                  (("--max-queued", "0"), 2, "--max-queued"),
                                  (("--max-queued-tokens", "0"), 2, "--max-queued-tokens"),
                                  (("--kv-tokens", "-1"), 2, "--kv-tokens"),
                                  (("--request-traces", "65"), 2, "--request-traces"),
                                  (("--log-level", "loud"), 2, "--log-level"),
                                  (("--kv-tokens", str(CONTEXT_TOKENS - 1)), 2, "--kv-tokens")]:
            result = run("serve", DEMO, "--listen", "127.0.0.1:0", *flags)
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn(said, result.stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
