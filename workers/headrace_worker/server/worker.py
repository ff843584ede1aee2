"""What the routes share: the state of this worker, and whether it takes requests now."""

from dataclasses import dataclass, field

from headrace_api.names import REFUSED_DRAINING, REFUSED_NOT_READY
from headrace_worker.errors import RequestError
from headrace_worker.messages import Loading, Ready
from headrace_worker.server.core import Core
from headrace_worker.server.embedding import EmbeddingModel, Embeddings
from headrace_worker.server.metrics import Metrics
from headrace_worker.server.peers import Peers
from headrace_worker.server.served import ServedModel
from headrace_worker.server.streams import Streams
from headrace_worker.settings import WorkerSettings
from headrace_worker.text import ChatTemplate, Vocabulary
from headrace_worker.text.wordpieces import EncoderVocabulary


@dataclass(slots=True)
class Progress:
    """How far the start has come; `done` and `total` are bytes."""

    phase: str = "download"
    """`download`, `load` or `warm`."""
    done: int = 0
    total: int = 0

    def loading(self, message: Loading) -> None:
        """Note bytes of weights read; all read means that the first steps are being tried."""
        self.phase = "warm" if message.total and message.done >= message.total else "load"
        self.done, self.total = message.done, message.total


@dataclass(slots=True)
class Worker:
    """One worker from start to end."""

    settings: WorkerSettings
    metrics: Metrics
    core: Core
    streams: Streams
    peers: Peers
    embeddings: Embeddings
    progress: Progress = field(default_factory=Progress)
    text: tuple[Vocabulary, ChatTemplate | None] | None = None
    encoder_text: EncoderVocabulary | None = None
    """In place of `text` where the model is an encoder."""
    ready: Ready | None = None
    draining: bool = False
    stopping: bool = False
    """The core has been asked to end: its end is no failure."""

    @property
    def alive(self) -> bool:
        """Whether both processes are there, or the second one is still to come."""
        return self.core.alive or self.ready is None

    def serving(self) -> ServedModel | None:
        """Return the loaded model; None until text and core are both ready."""
        if self.text is None or self.ready is None:
            return None
        vocabulary, template = self.text
        fingerprint = f"headrace-{self.ready.kv_hash[:12]}"
        return ServedModel(self.settings.name, vocabulary, template, self.ready.max_model_len, fingerprint)

    def encoding(self) -> EmbeddingModel | None:
        """Return the loaded encoder; None until text and core are both ready, and where the model generates."""
        if self.encoder_text is None or self.ready is None:
            return None
        return EmbeddingModel(self.settings.name, self.encoder_text, self.ready.max_model_len)

    def admit(self) -> ServedModel:
        """Return the model for a new answer; raise RequestError: 503 when none is taken now, 400 of an encoder."""
        self._check_open()
        model = self.serving()
        if model is None and self.encoding() is not None:
            raise RequestError("This model is an encoder, which generates nothing; ask it at /v1/embeddings.")
        if model is None:
            raise self._not_ready()
        return model

    def admit_texts(self) -> EmbeddingModel:
        """Return the encoder for a new request; raise RequestError: 503 when none is taken now, 400 of others."""
        self._check_open()
        model = self.encoding()
        if model is None and self.serving() is not None:
            raise RequestError("This model generates text and has no embeddings; ask it at /v1/chat/completions.")
        if model is None:
            raise self._not_ready()
        return model

    def _check_open(self) -> None:
        if self.draining or not self.alive:
            text = "This worker is draining and takes no new requests; ask another."
            raise RequestError(text, status=503, code=REFUSED_DRAINING)

    def _not_ready(self) -> RequestError:
        text = f"This worker is not ready yet (phase {self.progress.phase}); try again."
        return RequestError(text, status=503, code=REFUSED_NOT_READY)
