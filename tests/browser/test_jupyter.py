"""Test of JupyterLab behind 0Trust: open a notebook, run a cell, see its output.

The kernel's output comes over a WebSocket, and JupyterLab is strict about `Host` and `Origin`.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import BUILD, PageErrors, chromium, verified_key
from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(150),
    pytest.mark.xdist_group("jupyter"),
]

HOST = "jupyter.localhost"
TOKEN = "a-token-for-the-test"
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "answer",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "print(6*7)",
        }
    ],
    "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
async def jupyter_port(tmp_path: Path) -> AsyncIterator[int]:
    """Run JupyterLab with one notebook and without the user's configuration; yield its port."""
    port = free_port()
    work = tmp_path / "work"
    work.mkdir()
    (work / "answer.ipynb").write_text(json.dumps(NOTEBOOK))
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={work}"),
        f"--ServerApp.local_hostnames={HOST}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=",
    ]
    own = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    env = {name: str(tmp_path / name.lower()) for name in own}
    async with Process("jupyter", command, log=tmp_path / "jupyter.log", env=env) as process:
        await wait_port(port, process=process, timeout=60)
        yield port


async def ran(page: Page) -> bool:
    """Run the cell; return True if it has output.

    JupyterLab forgets a run that comes while it is still connecting, so the test retries.
    """
    cell = page.locator(".jp-CodeCell").first
    dialog = page.locator(".jp-Dialog")
    if await dialog.count():  # now and then it asks for the kernel although the notebook names it
        await dialog.locator("select").select_option(label="Python 3 (ipykernel)")
        await dialog.locator(".jp-mod-accept").click()
    await cell.locator(".cm-content").first.click()
    await page.keyboard.press("Control+Enter")
    try:
        await expect(cell.locator(".jp-OutputArea-output").first).to_be_visible(timeout=5_000)
    except AssertionError:
        return False
    return True


async def test_a_notebook_s_cell_runs(jupyter_port: int, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    services = [service(HOST, jupyter_port)]
    async with Stack(
        tmp_path / "s", Authority(tmp_path / "ca"), agents={"agent-1": services}
    ) as stack:
        key = await asyncio.to_thread(verified_key, HOST, stack.caddy.port, stack.caddy_root)
        page_errors = PageErrors()
        async with chromium(key) as browser:
            page = await browser.new_page()
            page_errors.watch(page)
            await page.goto(stack.caddy.url(HOST, f"/lab/tree/answer.ipynb?token={TOKEN}"))
            cell = page.locator(".jp-CodeCell").first
            await expect(cell.locator(".cm-content").first).to_have_text(
                "print(6*7)", timeout=60_000
            )
            await expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute(
                "data-status", "idle", timeout=60_000
            )
            await eventually(lambda: ran(page), "the cell's output is there", 40)
            await expect(cell.locator(".jp-OutputArea-output").first).to_have_text("42")
            BUILD.mkdir(exist_ok=True)
            await page.screenshot(path=BUILD / "jupyter.png")
        channels = [url for url in page_errors.sockets if "/api/kernels/" in url]
        assert channels
        assert all(url.startswith(f"wss://{HOST}:{stack.caddy.port}/") for url in channels)
        assert not [error for error in page_errors.errors if "WebSocket" in error]
