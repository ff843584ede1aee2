"""The prefill worker's side of hand-offs: attempts become sequences that end with their first token."""

from collections.abc import Callable

from typing_extensions import override

from headrace_api.frames import Token
from headrace_api.handoff import Dead, Layout
from headrace_worker.engine.handoff import Admitted, Handoff
from headrace_worker.engine.layers import announcing
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Item, Plan, Scheduler
from headrace_worker.engine.sequence import Sequence, blocks_for
from headrace_worker.errors import TransferError
from headrace_worker.runner.work import Written
from headrace_worker.transfer import events
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.writing import Ready


class Serving(Handoff):
    """Computes prompts for decode workers and lets the courier write their KV while it goes on.

    Args:
        courier: the thread that owns the transport.
        scheduler: of this worker; attempts queue in it like any sequence.
        report: counters.
        layout: of this worker's KV memory.
        max_model_len: most tokens of one context.
        max_waiting: most attempts in flight.
        mark: makes an event that comes when the device has done what was asked of it so far; None where compute is
            done when the call returns.
    """

    def __init__(
        self,
        courier: Courier,
        scheduler: Scheduler,
        report: Report,
        *,
        layout: Layout,
        max_model_len: int,
        max_waiting: int,
        mark: Callable[[], Ready] | None = None,
    ) -> None:
        self._courier = courier
        self._scheduler = scheduler
        self._report = report
        self._max_model_len = max_model_len
        self._max_waiting = max_waiting
        self._mark = mark
        self._layout = layout
        self._sequences: dict[str, Sequence] = {}

    @override
    def poll(self, now: float) -> list[Admitted]:
        for event in self._courier.poll():
            self._report.changed = True
            match event:
                case events.Asked():
                    self._open(event)
                case events.Stopped(attempt):
                    self._stop(attempt)
                case events.Settled():
                    self._settle(event)
                case events.Down(reason):
                    raise TransferError(f"hand-offs have ended: {reason}")
                case _:
                    pass  # the other events are for decode workers
        return []

    def _open(self, event: events.Asked) -> None:
        asked = event.attempt
        length = len(asked.prompt_ids) + len(asked.output_ids)
        if not asked.prompt_ids or length >= self._max_model_len or not self._scheduler.fits(length):
            reason = f"a context of {length} tokens does not fit: this worker holds {self._max_model_len} at most"
            self._courier.refuse(asked.attempt, reason)
            return
        if len(self._sequences) >= self._max_waiting:
            self._courier.refuse(asked.attempt, f"{len(self._sequences)} attempts are in flight already")
            return
        sequence = Sequence(
            request=asked.attempt,
            choice=asked.choice,
            prompt_ids=asked.prompt_ids,
            sampling=asked.sampling,
            max_len=self._max_model_len,
            output_ids=list(asked.output_ids),
            attempt=asked.attempt,
        )
        self._sequences[asked.attempt] = sequence
        self._scheduler.add(sequence)

    def _stop(self, attempt: str) -> None:
        """Compute no more of it; blocks that transfers may read stay until it is settled."""
        sequence = self._sequences.get(attempt)
        if sequence is not None and sequence.blocks:
            self._scheduler.hold(sequence)
        elif sequence is not None:
            self._scheduler.remove(sequence)

    def _settle(self, event: events.Settled) -> None:
        sequence = self._sequences.pop(event.attempt, None)
        if sequence is not None:
            self._scheduler.remove(sequence)
            if event.outcome != "admitted":
                self._report.add("gpu_lost_ns", round(sequence.prefill_s * 1e9))
        self._report.add(f"handoff_{event.outcome}")
        self._report.add("bytes_sent", event.sent_bytes)
        if event.outcome == "admitted":
            self._report.transfer_s.append(event.transfer_s)

    @override
    def begin(self, plan: Plan) -> Callable[[int], None] | None:
        for sequence in plan.started:
            if sequence.attempt is not None:
                self._courier.starting(sequence.attempt)
                hit = sequence.blocks[: sequence.registered]
                if hit:
                    self._courier.ready_blocks(sequence.attempt, 0, hit)
        written = self.written(plan)
        return announcing(written, self._layout, self._courier.layers_done, self._mark) if written else None

    @override
    def written(self, plan: Plan) -> list[Written]:
        return [self._written(item) for item in plan.items if item.sequence.attempt is not None]

    def _written(self, item: Item) -> Written:
        assert item.sequence.attempt is not None
        block_size = self._scheduler.pool.block_size
        first = item.start // block_size
        last = blocks_for(item.start + item.count, block_size)
        return Written(item.sequence.attempt, first, item.sequence.blocks[first:last])

    @override
    def computed(self, item: Item, token: Token | None) -> bool:
        sequence = item.sequence
        if sequence.attempt is None:
            return False
        if token is not None:
            self._scheduler.hold(sequence)
            self._courier.finish(sequence.attempt, token, sequence.cached_tokens, sequence.prefill_s)
        return True

    @override
    def failed(self, sequence: Sequence, reason: str) -> bool:
        if sequence.attempt is None:
            return False
        self._scheduler.hold(sequence)
        self._courier.refuse(sequence.attempt, reason)
        return True

    @override
    def peer_dead(self, dead: Dead) -> None:
        self._courier.dead(dead)

    @override
    def close(self) -> None:
        self._courier.close()
