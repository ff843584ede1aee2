"""The core loop: take in messages, schedule, run, deliver; again."""

import logging
import time
from collections.abc import Callable

from headrace_api.frames import Token
from headrace_worker.engine.handoff import Handoff
from headrace_worker.engine.link import FrontLink
from headrace_worker.engine.meter import Meter, take
from headrace_worker.engine.report import Report
from headrace_worker.engine.requests import Requests
from headrace_worker.engine.scheduler import Item, Plan, Scheduler
from headrace_worker.engine.sequence import Phase, Sequence
from headrace_worker.messages import Cancel, Embed, Failed, Finish, Generate, Output, Outputs, PeerDead, Shutdown
from headrace_worker.offload.offload import Offload
from headrace_worker.runner.runner import Runner
from headrace_worker.runner.sampling import NotFiniteError
from headrace_worker.runner.work import Draw, Row, Work

logger = logging.getLogger(__name__)
_IDLE_S = 1.0
_PROMPT_SHARE = 8
"""Prompt tokens for each sequence of a step: from there on its time is the prompts'."""


class Core:
    """Everything of one engine process, on one thread.

    Args:
        link: to the front.
        scheduler: over the worker's block pool.
        runner: the model.
        handoff: the side of hand-offs this worker plays.
        report: counters, shared with the hand-off side.
        max_model_len: most tokens of one context.
        vocabulary: how many token ids the model has.
        max_waiting: most queued sequences.
        clock: monotonic seconds.
        meter: shares the steps' time out; left out: one device, by tokens alone.
        offload: the tiers below the device; left out: none.
    """

    def __init__(  # noqa: PLR0913 - the parts of a process, each made elsewhere
        self,
        *,
        link: FrontLink,
        scheduler: Scheduler,
        runner: Runner,
        handoff: Handoff,
        report: Report,
        max_model_len: int,
        vocabulary: int,
        max_waiting: int,
        clock: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
        offload: Offload | None = None,
    ) -> None:
        self._link = link
        self._scheduler = scheduler
        self._runner = runner
        self._handoff = handoff
        self._report = report
        self._max_model_len = max_model_len
        self._vocabulary = vocabulary
        self._max_waiting = max_waiting
        self._clock = clock
        self._meter = meter or Meter(report, clock)
        self._offload = offload or Offload()
        self._requests = Requests()
        self._outputs: list[Output] = []

    def run(self) -> None:
        """Serve until the front says Shutdown."""
        while self._listen():
            self._runner.check()
            for admitted in self._handoff.poll(self._clock()):
                self._deliver(admitted.sequence, admitted.token)
            for owner in self._offload.poll(self._clock()):
                assert isinstance(owner, int), "only sequences wait for a disk"
                self._scheduler.fetched(owner)
            self._flush()  # a token that arrived must not wait for the step that makes the next one
            if not self._step():
                self._rest()
        self._handoff.close()
        self._scheduler.pool.empty()
        self._offload.close()
        self._runner.close()

    def _step(self) -> bool:
        """Run one step; False when there was nothing to run."""
        plan = self._scheduler.schedule()
        self._offload.flush()  # what was evicted is copied away before anything is written over it
        if plan.preempted:
            self._report.add("preemptions", len(plan.preempted))
        for sequence in plan.started:
            self._report.add("prompt_cached", sequence.computed - sequence.loaded)
            self._report.add("prompt_loaded", sequence.loaded)
        if plan.items:
            began = self._clock()
            rows = [row_of(item) for item in plan.items]
            results = self._runner.run(Work(rows, self._handoff.begin(plan), self._handoff.written(plan)))
            self._meter.ran(plan.items)
            self._scheduler.complete(plan)
            self._settle(plan, results)
            self._report.step_s.append(self._clock() - began)
            self._note(plan, self._clock() - began)
        self._flush()
        return bool(plan.items)

    def _note(self, plan: Plan, seconds: float) -> None:
        """Have it known what computing prompts takes, from steps that do little else."""
        prompt_tokens = sum(item.count for item in plan.items if item.count > 1)
        if prompt_tokens > _PROMPT_SHARE * len(plan.items):
            self._offload.computed(seconds, prompt_tokens / self._scheduler.pool.block_size)

    def _settle(self, plan: Plan, results: list[Token | NotFiniteError | None]) -> None:
        for item, result in zip(plan.items, results, strict=True):
            sequence = item.sequence
            if sequence.phase is Phase.FINISHED:
                continue  # another choice of its request failed in this step
            if not (item.samples and item.count == 1 and sequence.output_ids):
                self._report.add("prompt_computed", item.count)
            if isinstance(result, NotFiniteError):
                if not self._scheduler.distrust(sequence):
                    self._fail(sequence, str(result))
            elif not self._handoff.computed(item, result) and result is not None:
                self._deliver(sequence, result)

    def _deliver(self, sequence: Sequence, token: Token) -> None:
        """Append a token, report it, and end the sequence where it is the last one."""
        opening, sequence.opened = not sequence.opened, True
        sequence.output_ids.append(token.id)
        self._report.add("generated")
        finish = sequence.finish_reason()
        spent = take(sequence)
        self._outputs.append(
            Output(
                *(sequence.request, sequence.choice, (token,), finish),
                prefill=sequence.prefill if opening else None,
                cached_tokens=sequence.cached_tokens if opening else 0,
                prefill_s=spent.prefill_s,
                decode_s=spent.decode_s,
            )
        )
        for follower in self._requests.release_followers(sequence.request):
            self._scheduler.add(follower)
        if finish is not None:
            self._requests.close_choice(sequence.request, sequence.choice)
            self._scheduler.remove(sequence)

    def _fail(self, sequence: Sequence, reason: str) -> None:
        if not self._handoff.failed(sequence, reason):
            self._end(sequence.request)
            self._link.send(Failed(sequence.request, "internal", f"the request failed: {reason}"))

    def _flush(self) -> None:
        if self._outputs:
            self._link.send(Outputs(tuple(self._outputs)))
            self._outputs.clear()
        now = self._clock()
        if now >= self._report.due_at(_IDLE_S):
            below, experts = self._offload.stats(), self._runner.expert_tokens()
            self._link.send(self._report.stats(self._scheduler, self._handoff.remote, now, below, experts))

    def _rest(self) -> None:
        """Nothing can run: prove that the blocks add up, report, and wait for a message, a wake or a deadline."""
        if self._scheduler.idle:
            self._scheduler.pool.check()
        now = self._clock()
        until = min(now + _IDLE_S, self._report.due_at(_IDLE_S))
        for deadline in (self._handoff.deadline(), self._offload.deadline()):
            until = until if deadline is None else min(until, deadline)
        self._link.wait(until - now)
        self._meter.rested()

    # --- messages of the front ---------------------------------------------------------------------------------------

    def _listen(self) -> bool:
        """Take in all messages that are there; False once the front has said Shutdown."""
        for message in self._link.receive():
            if isinstance(message, Shutdown):
                return False
            assert not isinstance(message, Embed), "the front of a decoder refuses embeddings"
            self._take(message)
        return True

    def _take(self, message: Generate | Finish | Cancel | PeerDead) -> None:
        match message:
            case Generate():
                self._generate(message)
            case Finish(request, choice):
                self._finish(request, choice)
            case Cancel(request):
                self._end(request)
            case PeerDead(dead):
                self._handoff.peer_dead(dead)
        self._report.changed = True

    def _generate(self, message: Generate) -> None:
        refusal = self._refusal(message)
        if refusal is not None:
            self._link.send(refusal)
            return
        request = self._requests.open(message, self._max_model_len)
        leader = next(iter(request.sequences.values()))
        if not self._handoff.take(leader, message.peers, message.disaggregate):
            self._scheduler.add(leader)

    def _refusal(self, message: Generate) -> Failed | None:
        longest = len(message.prompt_ids) + max(len(choice.output_ids) for choice in message.choices)
        if not message.prompt_ids or longest >= self._max_model_len or not self._scheduler.fits(longest + 1):
            text = f"the context of {longest} tokens does not fit: this worker holds {self._max_model_len} at most"
            return Failed(message.request, "invalid", text)
        if not self._knows(message):
            return Failed(message.request, "invalid", f"token ids end at {self._vocabulary - 1} in this model")
        waiting = len(self._scheduler.waiting) + self._handoff.remote
        if waiting >= self._max_waiting:
            return Failed(message.request, "overloaded", f"{waiting} sequences wait already; try again later")
        return None

    def _knows(self, message: Generate) -> bool:
        """Whether the model has a row for each token id: kernels read wherever an id points."""
        ids = [*message.prompt_ids, *message.sampling.stop_ids, *(token for token, _ in message.sampling.logit_bias)]
        ids += [token for choice in message.choices for token in choice.output_ids]
        return min(ids) >= 0 and max(ids) < self._vocabulary

    def _finish(self, request: str, choice: int) -> None:
        followers = self._requests.release_followers(request)
        sequence = self._requests.close_choice(request, choice)
        for follower in followers:
            if follower is not sequence:
                self._scheduler.add(follower)
        if sequence is not None:
            self._drop(sequence)

    def _end(self, request: str) -> None:
        for sequence in self._requests.close(request):
            self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        self._meter.lost(sequence)
        if sequence.phase is Phase.REMOTE:
            self._handoff.cancel(sequence)
        else:
            self._scheduler.remove(sequence)


def row_of(item: Item) -> Row:
    """Return what the runner computes for one scheduled item."""
    sequence = item.sequence
    draw = None
    if item.samples:
        draw = Draw(sequence.sampling, sequence.choice, sequence.prompt_ids, sequence.output_ids)
    return Row(sequence.tokens(item.start, item.start + item.count), item.start, sequence.blocks, draw)
