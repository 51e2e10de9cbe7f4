"""Tests of the site that must pass before it is deployed."""
# ruff: noqa: PT009, PT027 - unittest needs no installation in a build

import importlib
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

build = importlib.import_module("build")


class Values(unittest.TestCase):
    def test_come_from_the_environment(self) -> None:
        environment = {"GREETING": "Hi", "STAGE": "staging", "CODEBUILD_RESOLVED_SOURCE_VERSION": "a" * 40}
        self.assertEqual(
            build.values(environment), {"greeting": "Hi", "stage": "staging", "commit": "a" * 12}
        )

    def test_have_defaults_without_codebuild(self) -> None:
        self.assertEqual(
            build.values({}), {"greeting": "Hello", "stage": "development", "commit": "your desk"}
        )

    def test_reject_an_unknown_stage(self) -> None:
        with self.assertRaisesRegex(ValueError, "'moon'"):
            build.values({"STAGE": "moon"})


class Rendering(unittest.TestCase):
    def test_escapes_markup_in_a_value(self) -> None:
        self.assertEqual(build.render("<p>${greeting}</p>", {"greeting": "<b>"}), "<p>&lt;b&gt;</p>")

    def test_rejects_an_unknown_value(self) -> None:
        with self.assertRaises(KeyError):
            build.render("${surprise}", {"greeting": "Hi"})


class Site(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.target = Path(temporary.name) / "dist"
        shown = build.values({"GREETING": "Good <morning>", "STAGE": "production"})
        self.written = build.build(HERE / "site", self.target, shown)
        self.page = (self.target / "index.html").read_text(encoding="utf-8")

    def test_shows_greeting_and_stage(self) -> None:
        self.assertIn("<h1>Good &lt;morning&gt;</h1>", self.page)
        self.assertIn('<body class="production">', self.page)

    def test_leaves_nothing_to_fill_in(self) -> None:
        self.assertNotIn("${", self.page)

    def test_has_every_file(self) -> None:
        names = {path.relative_to(self.target).as_posix() for path in self.written}
        self.assertLessEqual({"index.html", "style.css"}, names)

    def test_removes_files_of_an_earlier_build(self) -> None:
        old = self.target / "old.html"
        old.write_text("old")
        build.build(HERE / "site", self.target, build.values({}))
        self.assertFalse(old.exists())


if __name__ == "__main__":
    unittest.main()
