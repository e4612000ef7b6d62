"""Commands about the captures of all workers of a server."""

from typing import Any, Final

from pydantic import BaseModel

from zerotrust.errors import NotFound
from zerotrust.model import capture_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.model.worker_messages import StartCaptureForActor, StopCaptureForActor
from zerotrust.server.ops import worker_endpoints as endpoints
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.worker_news import NewsReader
from zerotrust.server.ops.worker_peers import WorkerPeers

_MESSAGES: Final = "/v1/captures/messages"


class AllWorkersCaptures(CaptureAdmin):
    """Answers commands about the captures of all workers."""

    def __init__(self, *parts: Any, peers: WorkerPeers, news: NewsReader) -> None:
        super().__init__(*parts)
        self._peers = peers
        self._news = news

    async def start(self, asked: views.StartCaptureRequest, actor: str) -> views.CaptureInfo:
        """Capture a WebSocket of any worker, or the next one of a host name at this worker.

        Raises:
            CallError: the worker that has the WebSocket refuses.
        """
        try:
            return await super().start(asked, actor)
        except NotFound:
            if asked.connection is None:
                raise
            request = StartCaptureForActor(**asked.model_dump(), actor=actor)
            started = await self._carry_out(endpoints.START_CAPTURE, request)
            if started is None:
                raise
            return started

    async def stop(self, asked: views.CaptureRequest, actor: str) -> views.CaptureInfo:
        """Stop a capture, whichever worker has it, and forget its messages.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        try:
            return await super().stop(asked, actor)
        except NotFound:
            request = StopCaptureForActor(id=asked.id, actor=actor)
            stopped = await self._carry_out(endpoints.STOP_CAPTURE, request)
            if stopped is None:
                raise
            return stopped

    async def captures_now(self, _asked: NoParameters, _actor: str) -> views.CaptureList:
        """Return the captures, newest first."""
        await self._news.refresh(now=True)
        return views.CaptureList(captures=self.listed())

    async def messages(
        self, asked: views.CapturedMessageQuery, actor: str
    ) -> views.CapturedMessageList:
        """Return messages of a capture, whichever worker has it.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        try:
            return await super().messages(asked, actor)
        except NotFound:
            found = await self._peers.get(_MESSAGES, views.CapturedMessageList, asked)
            if not found:
                raise
            return found[0]

    def listed(self) -> list[views.CaptureInfo]:
        """Return the captures, newest first; those of other workers as they were a second ago."""
        found = super().listed() + [one for news in self._news.news for one in news.captures]
        return sorted(found, key=lambda one: one.started_at, reverse=True)

    async def _carry_out(self, path: str, request: BaseModel) -> views.CaptureInfo | None:
        done = await self._peers.carry_out(path, views.CaptureInfo, request)
        await self._news.refresh(now=True)
        return done
