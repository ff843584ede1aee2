"""Text to token ids and back: vocabulary, chat template, incremental detokenizer, read from the model's own files.

Owns which text may spell control tokens. Knows nothing of HTTP, requests, the engine or torch.
"""

from headrace_worker.text.detokenizer import Detokenizer
from headrace_worker.text.load import load_text, load_vocabulary
from headrace_worker.text.template import ChatTemplate
from headrace_worker.text.vocabulary import Segment, Vocabulary

__all__ = ["ChatTemplate", "Detokenizer", "Segment", "Vocabulary", "load_text", "load_vocabulary"]
