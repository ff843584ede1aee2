"""The core's end of the socket to the front, and the wait for anything to do."""

import contextlib
import os

import msgspec
import zmq

from headrace_worker.messages import ToCore, ToFront

_RECEIVE_AT_MOST = 512
"""Messages taken in one go, so that a flood of requests cannot hold up a step."""


class FrontLink:
    """A ZeroMQ PAIR socket to the front plus a pipe by which other threads wake the core."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.connect(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[ToCore] = msgspec.msgpack.Decoder(ToCore)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._woken, zmq.POLLIN)

    def send(self, message: ToFront) -> None:
        """Queue a message for the front; never blocks."""
        self._socket.send(self._encoder.encode(message))

    def receive(self) -> list[ToCore]:
        """Return the messages that are there now."""
        messages: list[ToCore] = []
        while len(messages) < _RECEIVE_AT_MOST:
            try:
                messages.append(self._decoder.decode(self._socket.recv(zmq.NOBLOCK)))
            except zmq.Again:
                break
        return messages

    def wake(self) -> None:
        """End a `wait` now; may be called from any thread."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes just as well
            os.write(self._wake, b"\0")

    def wait(self, timeout_s: float) -> None:
        """Return when a message is there, when woken, or after the timeout."""
        ready = dict(self._poller.poll(max(0, round(timeout_s * 1000))))
        if self._woken in ready:
            os.read(self._woken, 4096)

    def close(self) -> None:
        """Close the socket; queued messages get a second to leave."""
        self._socket.close()
        os.close(self._woken)
        os.close(self._wake)
