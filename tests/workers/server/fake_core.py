"""A core without a model: speaks the real messages over the real socket, and says the same for the same request.

Every choice says PHRASE, rotated by its index, one token per step, then the end token. Some seeds ask for faults.
What it was told shows in its statistics: counters are borrowed where a test needs to see a message's arrival.
"""

import argparse
import os
import sys
import threading
import time
from dataclasses import dataclass, field

import msgspec
import zmq

from headrace_api.frames import Token
from headrace_worker.messages import (
    Broken,
    Cancel,
    Choice,
    Failed,
    Finish,
    Generate,
    Loading,
    Output,
    Outputs,
    PeerDead,
    Ready,
    Shutdown,
    Stats,
    ToCore,
    ToFront,
)
from headrace_worker.settings import WorkerSettings

PHRASE = b"The quick brown fox jumps over the lazy dog. "
END = 259
SEED_INVALID, SEED_OVERLOADED, SEED_INTERNAL, SEED_DIES, SEED_STALLS = 9001, 9002, 9003, 9004, 9005
SEED_DIES_AT_ONCE = 9006
FAULTS = {SEED_INVALID: "invalid", SEED_OVERLOADED: "overloaded", SEED_INTERNAL: "internal"}
STEP_S = 0.0005


@dataclass
class Running:
    generate: Generate
    choice: Choice
    position: int
    stalled: bool = False


@dataclass
class Core:
    socket: "zmq.Socket[bytes]"
    running: list[Running] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    def send(self, message: ToFront) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

    def take(self, message: ToCore) -> None:
        match message:
            case Generate():
                self.start(message)
            case Cancel():
                self.count("preemptions")
                self.running = [one for one in self.running if one.generate.request != message.request]
            case Finish():
                self.count("handoff_refused")
                gone = (message.request, message.choice)
                self.running = [one for one in self.running if (one.generate.request, one.choice.index) != gone]
            case PeerDead():
                self.count("handoff_aborted")
            case Shutdown():
                sys.exit(0)

    def start(self, generate: Generate) -> None:
        fault = FAULTS.get(generate.sampling.seed)
        if fault is not None:
            self.send(Failed(generate.request, fault, f"a failure of kind {fault}"))
            return
        if generate.sampling.seed == SEED_DIES_AT_ONCE:
            os._exit(7)
        self.count("prompt_computed", len(generate.prompt_ids))
        self.count("handoff_admitted", len(generate.peers))
        self.running += [Running(generate, choice, len(choice.output_ids)) for choice in generate.choices]

    def step(self) -> None:
        outputs = [output for one in list(self.running) if (output := self.advance(one)) is not None]
        if outputs:
            self.send(Outputs(tuple(outputs)))

    def advance(self, one: Running) -> Output | None:
        sampling = one.generate.sampling
        if one.position == 3 and sampling.seed == SEED_DIES:
            os._exit(7)
        if one.position == 3 and sampling.seed == SEED_STALLS:
            return None
        fresh = one.position == len(one.choice.output_ids)
        index = one.position + one.choice.index
        ended = one.position == len(PHRASE) and END in sampling.stop_ids
        token_id = END if ended else PHRASE[index % len(PHRASE)]
        top = tuple((token_id + step, -0.25 - step) for step in range(sampling.top_logprobs or 0))
        one.position += 1
        self.count("generated")
        finish = "stop" if ended else "length" if one.position == sampling.max_tokens else None
        if finish is not None:
            self.running.remove(one)
        token = Token(token_id, -0.25, 1.0, top)
        if not fresh:
            return Output(one.generate.request, one.choice.index, (token,), finish)
        peers = one.generate.peers
        prefill = peers[0].worker if peers else "local"
        return Output(one.generate.request, one.choice.index, (token,), finish, prefill, 16)

    def tell_stats(self) -> None:
        blocks = {"free": 90, "cached": 6, "active": 4, "granted": 0, "quarantined": 0}
        self.send(
            Stats(
                running=len(self.running),
                waiting=0,
                waiting_prompt_tokens=0,
                blocks=blocks,
                counters=dict(self.counters),
                step_s=(0.01,),
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--front", required=True)
    address = parser.parse_args().front
    settings = WorkerSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(3)), daemon=True).start()
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.connect(address)
    core = Core(socket)
    core.send(Loading(50, 100))
    if settings.device in {"broken", "hopeless"}:
        permanent = settings.device == "hopeless"
        core.send(Broken("The model needs 9.00 GiB but only 1.00 GiB are free.", permanent=permanent))
        context.destroy(linger=1000)
        sys.exit(1)
    if settings.device == "slow":
        threading.Event().wait(60)
    core.send(Loading(100, 100))
    core.send(Ready("tcp://127.0.0.1:1", "0123456789abcdef", 100, 16, settings.max_model_len or 256, 4096))
    told = 0.0
    decode = msgspec.msgpack.Decoder(ToCore).decode
    while True:
        while socket.poll(0 if core.running else 50):
            core.take(decode(socket.recv()))
        core.step()
        now = time.monotonic()
        if now - told > 0.05:
            told = now
            core.tell_stats()
        if core.running:
            time.sleep(STEP_S)


if __name__ == "__main__":
    main()
