"""A hostile report in a real browser: whether anything of a log runs; and pictures of a report.

``python -m benchmarks.report_in_browser [--chromium chromium] [--shots FOLDER REPORT.html]``: texts that would run if
they could are put into every field of a record; then Chromium opens the report, with and without its policy, and what
it has made of the page is searched for their traces. With ``--shots`` it takes pictures of a report: in the light, in
the dark, narrow, and as a PDF.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import cycle
from pathlib import Path
from typing import Any

from keytrail.data import packaged
from keytrail.hunt import Hit
from keytrail.pack import load_rules
from keytrail.report import About, Findings, render
from keytrail.summary import Summary

RUN = "document.documentElement.setAttribute('data-ran',1)"
TEXTS = (
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"'><svg onload={RUN}>",
    f"</style><script>{RUN}</script>",
    f"</title></svg></desc><script>{RUN}</script>",
    f"javascript:{RUN}",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<details open ontoggle={RUN}>",
    f"--><script>{RUN}</script><!--",
    f"\u202e\x00\x1b[31m<script>{RUN}</script>",
    f"{{{{ self }}}}<math><style><img src=x onerror={RUN}>",
)
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    "--hide-scrollbars",
)
# The first two are the pictures in docs/report.md.
WIDE = ("--window-size=1200,1500",)
SHOTS: dict[str, tuple[str, ...]] = {
    "report-light.png": WIDE,
    "report-dark.png": (*WIDE, "--blink-settings=preferredColorScheme=0"),
    "narrow.png": ("--window-size=500,1700",),
}


def hostile(node: Any, texts: Iterator[str]) -> Any:
    """Return a record with a hostile text in the place of each of its own."""
    if isinstance(node, dict):
        return {key: hostile(value, texts) for key, value in node.items()}
    if isinstance(node, list):
        return [hostile(one, texts) for one in node]
    return next(texts) if isinstance(node, str) else node


def hostile_page() -> str:
    """Return a report of hits whose every text is hostile."""
    rules = load_rules([packaged("rules")]).rules
    event = json.loads((packaged("fixtures") / "events" / "modern_read_log_file.json").read_text("utf-8"))
    texts, findings = cycle(TEXTS), Findings(rules)
    for number, rule in enumerate(rule for rule in rules if rule.kind == "rule"):
        record = {**hostile(event, texts), "errorCode": next(texts), "eventID": f"{number}{next(texts)}"}
        findings.take(Hit(rule, record, next(texts), number))
    summary = Summary(findings.counts, {rules[0].id: TEXTS[0]}, 1, 1, 1)
    about = About(TEXTS[0], TEXTS[1], [TEXTS[2]], TEXTS[3], datetime(2026, 11, 25, tzinfo=timezone.utc))
    return render(findings, summary, about)


def opened(chromium: str, page: Path, *options: str) -> str:
    """Open a page in a browser of its own, and return what that prints."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [chromium, *OPTIONS, f"--user-data-dir={folder}", *options, page.absolute().as_uri()]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout


def main() -> None:
    """Check, and take pictures where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report_in_browser", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--shots", nargs=2, type=Path, metavar=("FOLDER", "REPORT"))
    given = parser.parse_args()
    made = hostile_page()
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", made)
    control = bare.replace("<main>", f"<main><script>{RUN}</script>")
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        checks = (
            ("as it is", made, False),
            ("without its policy", bare, False),
            ("with a script, to try the trial", control, True),
        )
        for name, html, runs in checks:
            page.write_text(html, "utf-8")
            ran = "data-ran=" in opened(given.chromium, page, "--dump-dom").partition(">")[2][:200]
            failures += ran is not runs
            print(f"the hostile report {name}: {'something ran' if ran else 'nothing ran'}")
    if given.shots:
        folder, report = given.shots
        for name, options in SHOTS.items():
            opened(given.chromium, report, *options, f"--screenshot={(folder / name).absolute()}")
        opened(given.chromium, report, "--no-pdf-header-footer", f"--print-to-pdf={(folder / 'print.pdf').absolute()}")
        print(f"pictures in {folder}: {', '.join([*SHOTS, 'print.pdf'])}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
