#!/usr/bin/env python3
"""The report in a real browser: markup, console, sizes of what is shown, read-outs, colours in light and dark.

usage: report_screenshot_test.py REPORT_SAMPLE [REPORT.html ...]
REPORT_SAMPLE writes reports of made-up profiles; further reports are looked at too. Needs chromium.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path

from PIL import Image

SAMPLE, REPORTS = sys.argv[1], [Path(argument) for argument in sys.argv[2:]]
BROWSER = shutil.which("chromium")
SAMPLES = ("skewed", "demo", "empty")
ALWAYS_SHOWN = ("headline", "frequencies", "heat-map", "concentration-chart", "sparsity-chart", "share-chart", "gini-chart",
                "third-moment-chart", "coverage-chart", "memory-chart", "alternatives", "hardware", "layers")
# Tells the size of everything with an id, the page's own width, and what the pointer would read on the heat map.
PROBE = """<script>
const sizes = {};
for (const element of document.querySelectorAll('main [id]')) {
  const box = element.getBoundingClientRect();
  sizes[element.id] = [box.width, box.height];
}
const target = document.querySelector('.heat-target');
const box = target.getBoundingClientRect();
target.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + 1, clientY: box.top + 1}));
const probe = document.createElement('pre');
probe.id = 'probe';
probe.textContent = JSON.stringify({sizes, scroll: document.documentElement.scrollWidth, inner: innerWidth,
                                    tip: document.querySelector('.tip').textContent,
                                    lit: document.querySelectorAll('.lit').length});
document.body.append(probe);
</script></body>"""


class Folder:
    """A temporary folder with the reports, one for the whole run."""
    holder = tempfile.TemporaryDirectory()
    path = Path(holder.name)


def setUpModule():
    assert BROWSER, "chromium is not installed (scripts/install-deps.sh)"
    for kind in SAMPLES:
        subprocess.run([SAMPLE, kind, Folder.path / f"{kind}.html"], check=True, timeout=120)


def tearDownModule():
    Folder.holder.cleanup()


def pages():
    return [Folder.path / f"{kind}.html" for kind in SAMPLES] + REPORTS


def browse(page, *arguments, width=1280, height=1800, dark=False):
    """Standard output and console messages of one headless visit."""
    command = [BROWSER, "--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run",
               "--disable-extensions", "--disable-background-networking", f"--user-data-dir={Folder.path / 'browser'}",
               "--enable-logging=stderr", "--virtual-time-budget=2000", f"--window-size={width},{height}",
               f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")
    result = subprocess.run([*command, *arguments, page.as_uri()], capture_output=True, timeout=120,
                            env={**os.environ, "HOME": str(Folder.path)})
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    console = re.findall(r"CONSOLE.*", result.stderr.decode(errors="replace"))
    return result.stdout.decode(), console


def probe(page, **options):
    """What the browser made of the page, as PROBE tells it."""
    copy = Folder.path / "probed.html"
    copy.write_text(page.read_text().replace("</body>", PROBE))
    dump, console = browse(copy, "--dump-dom", **options)
    found = re.search(r'<pre id="probe">(.*?)</pre>', dump, re.S)
    assert found, (console, dump[-500:])
    return json.loads(unescape(found.group(1))), console


def screenshot(page, dark):
    picture = Folder.path / "picture.png"
    picture.unlink(missing_ok=True)
    browse(page, f"--screenshot={picture}", dark=dark)
    return Image.open(picture).convert("RGB")


class Markup(unittest.TestCase):
    def test_reports_are_well_formed_with_unique_ids(self):
        for page in pages():
            with self.subTest(page.name):
                root = ElementTree.fromstring(page.read_text())
                ids = [element.get("id") for element in root.iter() if element.get("id")]
                self.assertEqual(len(ids), len(set(ids)))
                labels = {name for element in root.iter() for name in element.get("aria-labelledby", "").split()}
                self.assertLessEqual(labels, set(ids))

    def test_every_drawing_has_title_and_description(self):
        for page in pages():
            for drawing in ElementTree.fromstring(page.read_text()).iter("{http://www.w3.org/2000/svg}svg"):
                with self.subTest(page.name, drawing=drawing.get("id")):
                    self.assertEqual([child.tag.split("}")[1] for child in list(drawing)[:2]], ["title", "desc"])
                    self.assertTrue(drawing[0].text and drawing[1].text)


class Browser(unittest.TestCase):
    def test_planted_script_error_is_noticed(self):
        planted = Folder.path / "planted.html"
        planted.write_text("<!DOCTYPE html><body><script>throw new Error('planted')</script></body>")
        self.assertIn("planted", "".join(browse(planted, "--dump-dom")[1]))

    def test_everything_is_shown_and_the_console_is_silent(self):
        for page in pages():
            for width in (900, 1280, 1600):
                with self.subTest(page.name, width=width):
                    found, console = probe(page, width=width)
                    self.assertEqual(console, [])
                    self.assertLessEqual(set(ALWAYS_SHOWN), set(found["sizes"]))
                    for name in ALWAYS_SHOWN:
                        self.assertGreater(found["sizes"][name][0], 200, name)
                        self.assertGreater(found["sizes"][name][1], 40, name)
                    self.assertLessEqual(found["scroll"], found["inner"], "the page scrolls sideways")

    def test_pointer_reads_the_heat_map(self):
        found, _ = probe(Folder.path / "demo.html")
        # Two neurons a column: the most frequent two of layer 0 in models/demo/golden.json.
        self.assertRegex(found["tip"], r"^Layer 0, neurons 1 to 2 of 1,024: active for \d+\s% of tokens, hot$")
        self.assertGreater(found["lit"], 4)  # the layer's curve, bars and row

    def test_sweep_is_drawn_where_there_are_points(self):
        found, _ = probe(Folder.path / "skewed.html")
        self.assertGreater(found["sizes"]["sweep-speed-chart"][1], 100)


class Picture(unittest.TestCase):
    def brightness(self, picture):
        """Of the page's own background, left of the content."""
        return sum(picture.getpixel((8, 300))) / 3

    def near(self, picture, colour):
        """Share of pixels within a little of the colour."""
        near = sum(count for count, pixel in picture.getcolors(1 << 24)
                   if all(abs(a - b) <= 12 for a, b in zip(pixel, colour)))
        return near / (picture.width * picture.height)

    def test_light_and_dark_pages_show_the_heat_map(self):
        for dark in (False, True):
            with self.subTest(dark=dark):
                picture = screenshot(Folder.path / "skewed.html", dark)
                self.assertEqual(picture.size[0], 1280)
                self.assertGreater(len(picture.getcolors(1 << 24)), 300)
                self.assertGreater(self.near(picture, (0x1F, 0x32, 0x73)), 0.02)  # cold
                self.assertGreater(self.near(picture, (0xFC, 0x8E, 0x59)), 0.001)  # hot
                self.assertTrue(self.brightness(picture) < 40 if dark else self.brightness(picture) > 230)

    def test_further_reports_are_not_blank(self):
        for page in REPORTS:
            for dark in (False, True):
                with self.subTest(page.name, dark=dark):
                    self.assertGreater(len(screenshot(page, dark).getcolors(1 << 24)), 100)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
