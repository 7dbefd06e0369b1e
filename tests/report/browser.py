"""A report as a browser shows it: headless Chromium, the page in a frame of the wanted width."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.chromium import ARTEFACTS, chromium

_FRAME = """<!DOCTYPE html><body style="margin:0">
<iframe src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>
<pre id="seen"></pre>
<script>
window.onload = () => {{
  const frame = document.querySelector('iframe'), inner = frame.contentWindow, doc = frame.contentDocument;
  const root = doc.documentElement, cards = [...doc.querySelectorAll('.card, .figure')];
  const drawn = [...doc.querySelectorAll('[data-chart] svg')].filter((svg) => {{
    const box = svg.getBoundingClientRect();
    return box.width > 100 && box.height > 50 && svg.querySelectorAll('path').length > 3;
  }});
  document.querySelector('#seen').textContent = JSON.stringify({{
    width: inner.innerWidth,
    overflow: root.scrollWidth - root.clientWidth,
    spilling: cards.filter((card) => card.scrollWidth > card.clientWidth + 1).map((card) => card.id),
    drawn: drawn.map((svg) => svg.closest('[data-chart]').dataset.chart),
    requests: inner.performance.getEntriesByType('resource').map((entry) => entry.name),
    smallest: Math.min(...[...doc.querySelectorAll('.plot svg')].map((svg) =>
      parseFloat(getComputedStyle(svg.querySelector('text')).fontSize)
        * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
    scripts: doc.scripts.length,
    columns: getComputedStyle(doc.querySelector('.cards')).gridTemplateColumns.split(' ').length,
    ids: [...doc.querySelectorAll('[id]')].map((element) => element.id),
    dark: inner.matchMedia('(prefers-color-scheme: dark)').matches,
    background: inner.getComputedStyle(doc.body).backgroundColor,
  }});
}};
</script>"""


def look(page: Path, width: int, *, name: str, height: int = 6000, dark: bool = False) -> dict[str, Any]:
    """What the browser sees at this width, with `console`: what it had to complain about. Leaves a screenshot."""
    program = chromium()
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(_FRAME.format(page=page.as_uri(), width=width, height=height))
    ARTEFACTS.mkdir(exist_ok=True)
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
        f"--user-data-dir={page.parent / 'browser'}", f"--window-size={max(width, 500)},{height}",
        "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0", "--disable-background-networking",
        "--no-first-run", *(["--force-dark-mode"] if dark else []),
    ]  # fmt: skip
    done = _run([*command, "--dump-dom", frame.as_uri()])
    _run([*command, f"--screenshot={ARTEFACTS / f'{name}-{width}.png'}", frame.as_uri()])
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, done.stderr[-2000:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(html.unescape(seen[1])), "console": complaints}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
