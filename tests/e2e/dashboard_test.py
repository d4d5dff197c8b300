#!/usr/bin/env python3
"""The dashboard in headless Chromium: a completion streams, figures move, the map follows the tokens, keys are asked for.

usage: dashboard_test.py THERMOCLINE SOURCE_DIR PICTURES
Writes screenshots into the folder PICTURES. Needs chromium.
SPDX-License-Identifier: Apache-2.0
"""
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from PIL import Image

from browser import Page

PROGRAM, SOURCE, PICTURES = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
DEMO = SOURCE / "models" / "demo"
HARDWARE = SOURCE / "tests" / "e2e" / "split_hardware.json"
KEY, ADMIN_KEY = "key-of-the-dashboard-test", "admin-key-of-the-dashboard-test"
PROMPT = "It was a dark and stormy night; the ship went down with all hands, and nobody on the shore"
# What the map shows: a number that differs with the picture.
PICTURE = """(() => {
  const picture = document.getElementById('map').toDataURL();
  let hash = 0;
  for (let i = 0; i < picture.length; ++i) hash = (Math.imul(hash, 31) + picture.charCodeAt(i)) | 0;
  return hash;
})()"""
LIVE = "document.getElementById('connection-text').textContent === 'live'"


class Server:
    """thermocline serve with HTTP on a free port."""

    def __init__(self, *flags):
        self.process = subprocess.Popen([PROGRAM, "serve", str(DEMO), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *map(str, flags)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stderr:
            if found := re.search(r"HTTP on (\S+)", line):
                self.address = f"http://{found.group(1)}/"
                break
        assert self.address, f"the server ended with {self.process.wait()}"
        # Its log must not fill the pipe.
        self.reader = threading.Thread(target=self.process.stderr.read)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


def text(page, name):
    return page.run(f"document.getElementById('{name}').textContent")


def number(page, name):
    return float(re.sub(r"[^\d.]", "", text(page, name)) or "nan")


def write(page, prompt, tokens):
    """Types the prompt and sends it with the Enter key, once nothing streams."""
    page.wait("document.getElementById('send').textContent === 'Complete'")
    page.run(f"document.getElementById('max-tokens').value = {tokens}; document.getElementById('prompt').focus(); document.getElementById('prompt').select()")
    page.type(prompt)
    page.press("Enter", 13, "\r")


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        PICTURES.mkdir(parents=True, exist_ok=True)
        cls.root = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.root)
        cls.profile = cls.root / "profile"
        subprocess.run([PROGRAM, "profile", DEMO, "--corpus", DEMO / "valid.txt", "--max-tokens", "1500", "--gpu-memory", "12MiB", "--device",
                        "host", "--hardware", HARDWARE, "--predictor", "sign", "--predictor-tokens", "256", "--predictor-budget", "1",
                        "--context", "128", "--out", cls.profile], check=True, capture_output=True, timeout=300)
        cls.split = ("--profile", cls.profile, "--device", "host", "--context", 256)

    def expect_quiet(self, page, address):
        self.assertEqual(page.console, [])
        self.assertEqual([request for request in page.requests if not request.startswith((address, "data:", "about:"))], [])

    def test_a_prompt_streams_and_everything_moves(self):
        with Server(*self.split, "--audit-every", 4) as server, Page() as page:
            page.look(1280, 960)
            page.open(server.address)
            page.wait(LIVE)
            self.assertEqual(text(page, "model-name"), "demo")
            self.assertEqual(number(page, "finished"), 0)
            resting = page.run(PICTURE)
            # Every growth of the text, with what the map showed then.
            page.run("""window.seen = [];
              new MutationObserver(() => seen.push(document.getElementById('completion').textContent.length))
                .observe(document.getElementById('completion'), {childList: true})""")
            write(page, PROMPT, 200)
            pictures, steps = {resting}, set()
            while page.run("document.getElementById('send').textContent") == "Stop":
                pictures.add(page.run(PICTURE))
                steps.add(text(page, "map-summary"))
            page.wait("document.getElementById('finished').textContent === '1'")
            seen = page.run("seen")
            self.assertGreater(len(seen), 10, "the text did not come piece by piece")
            self.assertEqual(seen, sorted(seen))
            self.assertGreater(len(pictures), 2)
            self.assertGreater(len(text(page, "completion")), 100)
            self.assertEqual(text(page, "given"), PROMPT)
            self.assertRegex(text(page, "text-facts"), r"^\d+ tokens · [\d.,]+ per second · first after [\d.]+ ms")
            self.assertRegex(text(page, "map-summary"), r"^[\d,]+ of 6,144 neurons fired, [\d.]+\s% of them on host$")
            self.assertGreater(number(page, "active"), 0)
            self.assertGreater(number(page, "on-gpu"), 0)
            self.assertGreater(number(page, "recall"), 0)
            self.assertGreater(number(page, "used-pages") + number(page, "cached-pages") + number(page, "free-pages"), 0)
            # Another token, another picture.
            for prompt in ("The captain", "My dear Watson"):
                step = page.run(PICTURE)
                write(page, prompt, 2)
                page.wait(f"{PICTURE} !== {step}")
            # The same prompt again is found among the pages.
            write(page, PROMPT, 8)
            page.wait("parseFloat(document.getElementById('prefix').textContent) > 0")
            self.expect_quiet(page, server.address)

    def test_pictures_in_light_and_dark_small_and_large(self):
        with Server(*self.split) as server, Page() as page:
            for name, width, height, dark, scale in (("light", 1280, 960, False, 1), ("dark", 1280, 960, True, 1), ("narrow-light", 360, 780, False, 2),
                                                     ("narrow-dark", 360, 780, True, 2), ("large-dark", 3840, 2160, True, 1)):
                with self.subTest(name):
                    page.look(width, height, dark, scale)
                    page.open(server.address)
                    page.wait(LIVE)
                    write(page, PROMPT, 120)
                    page.wait("document.getElementById('text-facts').textContent !== ''")
                    path = PICTURES / f"dashboard-{name}.png"
                    page.screenshot(path)
                    picture = Image.open(path).convert("RGB")
                    self.assertEqual(picture.size, (width * scale, height * scale))
                    self.assertGreater(len(picture.getcolors(1 << 24)), 300)
                    self.assertEqual(sum(picture.getpixel((2, 300))) < 120, dark)
                    self.assertLessEqual(page.run("document.documentElement.scrollWidth"), width, "the page scrolls sideways")
            self.expect_quiet(page, server.address)

    def test_the_keyboard_reaches_everything(self):
        with Server(*self.split) as server, Page() as page:
            page.look(1280, 960, still=True)  # nobody who wants no motion gets any
            page.open(server.address)
            page.wait(LIVE)
            reached = []
            for _ in range(12):
                page.press("Tab", 9)
                reached.append(page.run("document.activeElement.id || document.activeElement.className"))
            for control in ("skip", "key-button", "map", "prompt", "max-tokens", "temperature", "quality", "send", "text"):
                self.assertIn(control, reached)
            page.run("document.getElementById('map').focus()")
            page.press("ArrowDown", 40)
            self.assertRegex(text(page, "tip"), r"^Layer 0, neurons 1 to 2 of 1,024, (hot|cold)")
            page.press("End", 35)
            page.press("ArrowDown", 40)
            self.assertRegex(text(page, "tip"), r"^Layer 1, neurons 1023 to 1024 of 1,024, (hot|cold)")
            page.press("Escape", 27)
            self.assertTrue(page.run("document.getElementById('tip').hidden"))
            resting = page.run(PICTURE)
            write(page, PROMPT, 20)
            page.wait("document.getElementById('finished').textContent === '1'")
            page.wait(f"{PICTURE} !== {resting}")  # a picture a second at most, but the picture of the last token
            self.expect_quiet(page, server.address)

    def test_dense_mode_does_not_pretend(self):
        with Server("--mode", "dense", "--device", "none", "--context", 128) as server, Page() as page:
            page.look(1280, 960)
            page.open(server.address)
            page.wait(LIVE)
            write(page, "The captain", 8)
            page.wait("document.getElementById('finished').textContent === '1'")
            self.assertIn("computes every neuron", text(page, "map-note"))
            self.assertEqual(text(page, "map-summary"), "Every token computes all 6,144 neurons.")
            self.assertEqual(text(page, "active"), "–")
            self.expect_quiet(page, server.address)

    def test_a_key_is_asked_for_and_kept_in_memory_alone(self):
        keys, admin_keys = self.root / "keys", self.root / "admin-keys"
        for path, key in ((keys, KEY), (admin_keys, ADMIN_KEY)):
            path.write_text(key + "\n")
            path.chmod(0o600)
        with Server("--device", "none", "--context", 128, "--api-keys", keys, "--admin-keys", admin_keys) as server, Page() as page:
            page.look(1280, 960)
            page.open(server.address)
            page.wait("document.getElementById('key-dialog').open")
            page.type(KEY)
            page.press("Enter", 13, "\r")
            page.wait("document.getElementById('connection-text').textContent === 'needs an admin key'")
            write(page, "The captain", 4)
            page.wait("document.getElementById('text-facts').textContent.startsWith('4 tokens')")
            page.run("document.getElementById('key-button').click()")
            page.type(ADMIN_KEY)
            page.press("Enter", 13, "\r")
            page.wait(LIVE)
            page.wait("document.getElementById('finished').textContent === '1'")
            self.assertEqual(page.run("localStorage.length + sessionStorage.length + document.cookie.length"), 0)
            self.assertNotIn(ADMIN_KEY, page.run("document.documentElement.outerHTML"))
            # The refusals show in the browser's own console, and nothing else does.
            self.assertEqual([line for line in page.console if not re.search(r"status of 40[13]", line)], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
