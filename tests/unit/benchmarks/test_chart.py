"""Tests of benchmarks.chart."""

import re
from dataclasses import replace
from xml.etree import ElementTree

from benchmarks.chart import draw
from benchmarks.metrics import alone, at_least, compare

SVG = "{http://www.w3.org/2000/svg}"


def test_a_bar_for_each_ratio() -> None:
    metrics = [
        replace(
            compare("<GET> & more", "requests/s", "/s", ours=[5.0], baseline=[10.0]),
            threshold=at_least(0.7),
        ),
        compare("Echo", "messages/s", "/s", ours=[10.0], baseline=[10.0]),
        compare("Echo", "p99", "ms", ours=[3.0], baseline=[1.0], higher_is_better=False),
        alone("Idle", "memory", "KiB", [1.0]),
    ]
    root = ElementTree.fromstring(draw(metrics))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == [
        "ours / baseline: more is better",
        "<GET> & more: requests/s",
        "0.50",
        "Echo: messages/s",
        "1.00",
        "ours / baseline: less is better",
        "Echo: p99",
        "3.00",
    ]
    half, whole, _ = [
        float(bar.attrib["width"])
        for bar in root.iter(f"{SVG}rect")
        if bar.attrib["width"] != "100%"
    ]
    assert whole == 2 * half


def test_nothing_is_drawn_outside() -> None:
    metrics = [compare("w", "m", "/s", ours=[50.0, 1.0, 0.1], baseline=[1.0, 1.0, 1.0])]
    document = draw(metrics)
    width = float(re.search(r'viewBox="0 0 (\d+)', document)[1])  # type: ignore[index]
    assert all(float(x) <= width for x in re.findall(r'\bx[12]?="([\d.]+)"', document))


def test_nothing_at_all() -> None:
    assert ElementTree.fromstring(draw([])).tag == f"{SVG}svg"
