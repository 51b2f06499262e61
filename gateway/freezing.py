"""How a gateway's owner has its incarnation closed: the recovery key demands it, peers freeze, freezes make a closing.

    recovery -> peers; freezes <- peers, until they are a quorum (ledger.closing)

Peers that froze the chain before, because its gateway signed two histories, say so again: then nothing is demanded.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from gateway import signing
from gateway.errors import Unavailable, VerificationError
from gateway.io.mqtt import Broker, Link, Outbox, Outgoing
from gateway.ledger import messages
from gateway.ledger.closing import Closing, Shown, sign_recovery
from gateway.ledger.evidence import open_evidence
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Standing, closing_in, note_freeze
from gateway.ledger.voting import Tip
from gateway.model import Freeze, Member

OUTBOX_SIZE = 16
DEMAND_AGAIN_S = 2.0

log = structlog.get_logger("iomt.freezing")


class Freezing:
    """The closing of one incarnation of a chain; `on_freeze` is told of each peer's freeze for good."""

    def __init__(
        self,
        broker: Broker,
        rosters: Rosters,
        gateway: Member,
        incarnation: int,
        on_freeze: Callable[[Freeze], None],
    ) -> None:
        self._rosters = rosters
        self._gateway = gateway
        self._chain = gateway.chain or ""
        tip = Tip(chain=self._chain, incarnation=incarnation)
        self._standing = Standing(tip, rosters.current.epoch)
        self._on_freeze = on_freeze
        topics = [str(Topic(self._chain, Kind.FREEZE, "+"))]
        self._link = Link(broker, identity=self._chain, topics=topics, on_connected=lambda: None)
        self._outbox = Outbox(self._link, OUTBOX_SIZE)
        self.evidence: tuple[bytes, bytes] | None = None

    async def close(self, recovery_key: signing.Key, limit_s: float) -> Closing:
        """Demand that the incarnation be closed, until a quorum has.

        Raises: Unavailable if it has not after `limit_s`.
        """
        tasks = [
            asyncio.create_task(work) for work in (self._link.run(), self._outbox.send(), self._demand(recovery_key))
        ]
        try:
            async with asyncio.timeout(limit_s):
                return await self._closing()
        except TimeoutError:
            raise Unavailable(self._lacking(limit_s)) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _demand(self, recovery_key: signing.Key) -> None:
        demand = sign_recovery(recovery_key, self._gateway.id, self._chain, self._standing.tip.incarnation)
        while True:
            await self._link.connected.wait()
            self._outbox.put(Outgoing(str(Topic(self._chain, Kind.RECOVERY)), demand, retain=False))
            await asyncio.sleep(DEMAND_AGAIN_S)

    async def _closing(self) -> Closing:
        while True:
            closing = closing_in(self._rosters, self._standing, is_final=True)
            if closing is not None:
                return closing
            message = await self._link.inbox.get()
            try:
                self._hear(message.payload)
            except VerificationError as error:
                log.warning("message refused", topic=message.topic, why=str(error))

    def _hear(self, payload: bytes) -> None:
        shown, cause = messages.decode_freezes(payload)
        for each in shown:
            self._note(each)
        if len(cause) == 2 and self.evidence is None:
            open_evidence(self._rosters.current, *cause)
            self.evidence = (cause[0], cause[1])

    def _note(self, shown: Shown) -> None:
        known = len(self._heard)
        freeze = note_freeze(self._rosters, self._standing, shown)
        if len(self._heard) > known:
            self._on_freeze(freeze)

    @property
    def _heard(self) -> Mapping[str, Shown]:
        """Who has frozen for good, in the current epoch."""
        return self._standing.heard.get((self._standing.epoch, True), {})

    def _lacking(self, limit_s: float) -> str:
        known = self._heard
        if not self._link.connected.is_set():
            return "the broker cannot be reached: nothing was closed"
        silent = [member.id for member in self._rosters.current.peers if member.id not in known]
        return (
            f"no quorum has frozen the chain in {limit_s:g} s; silent: {', '.join(silent)}. Try again: nothing is lost"
        )
