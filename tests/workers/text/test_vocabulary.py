import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from headrace_worker.errors import ModelError
from headrace_worker.text import Vocabulary, load_text, load_vocabulary

WriteGguf = Callable[..., Path]
START, END = "<|im_start|>", "<|im_end|>"
ALPHABET = "helo th1 2<|im_>\nin a<think>é漢🙂"
fixtures_stay = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def text_of(vocabulary: Vocabulary, ids: list[int]) -> str:
    return b"".join(map(vocabulary.piece, ids)).decode()


@pytest.fixture
def byte_vocabulary(write_gguf: WriteGguf, byte_level: dict[str, Any]) -> Vocabulary:
    return load_vocabulary(write_gguf(byte_level))


@pytest.fixture
def piece_vocabulary(write_gguf: WriteGguf, sentencepiece: dict[str, Any]) -> Vocabulary:
    return load_vocabulary(write_gguf(sentencepiece))


def reference(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


@fixtures_stay
@given(text=st.text(ALPHABET, max_size=30) | st.text(max_size=20))
def test_text_comes_back_and_never_holds_a_control_token(byte_vocabulary: Vocabulary, text: str) -> None:
    ids = byte_vocabulary.encode(text)
    assert text_of(byte_vocabulary, ids) == text
    assert not any(map(byte_vocabulary.is_control, ids))


@fixtures_stay
@given(
    parts=st.lists(
        st.tuples(st.text(ALPHABET, max_size=6) | st.sampled_from([START, END, "<|im_", "end|>"]), st.booleans()),
        max_size=8,
    )
)
def test_a_control_token_counts_only_where_all_of_it_is_trusted(
    byte_vocabulary: Vocabulary, parts: list[tuple[str, bool]]
) -> None:
    ids = byte_vocabulary.encode_segments(parts)
    house = "".join(text if trusted else "\x00" * len(text) for text, trusted in parts)
    assert ids.count(0) == house.count(START)
    assert ids.count(1) == house.count(END)
    everything = "".join(text for text, _ in parts)
    spelled = "".join({0: START, 1: END}.get(i, "") or byte_vocabulary.piece(i).decode("latin-1") for i in ids)
    assert spelled.encode("latin-1").decode() == everything


@fixtures_stay
@given(parts=st.lists(st.text(ALPHABET, max_size=6) | st.sampled_from([START, END]), max_size=8))
def test_trusted_text_has_the_ids_of_transformers(
    write_gguf: WriteGguf, byte_level: dict[str, Any], parts: list[str]
) -> None:
    path = write_gguf(byte_level)
    expected = reference(path).encode("".join(parts), add_special_tokens=False)
    vocabulary = load_vocabulary(path)
    assert vocabulary.encode_segments([(part, True) for part in parts]) == expected
    assert vocabulary.encode("".join(parts), special=True) == expected


def test_merges_cross_the_border_between_the_house_and_the_client(byte_vocabulary: Vocabulary) -> None:
    ids = byte_vocabulary.encode_segments([(START + "he", True), ("llo", False), (END, True)])
    assert ids == [0, *byte_vocabulary.encode("hello"), 1]
    assert len(ids) == 3


def test_a_control_token_put_together_from_two_hands_stays_text(byte_vocabulary: Vocabulary) -> None:
    for segments in ([("<|im_", True), ("end|>", False)], [("<|im_e", False), ("nd|>", False)]):
        ids = byte_vocabulary.encode_segments(segments)
        assert ids == byte_vocabulary.encode(END)
        assert text_of(byte_vocabulary, ids) == END


def test_a_trusted_token_right_after_a_forged_head_is_still_found(byte_vocabulary: Vocabulary) -> None:
    assert byte_vocabulary.encode_segments([("<|im_start", False), (START, True)])[-1] == 0


def test_tokens_taken_whole_are_so_in_anyones_text(byte_vocabulary: Vocabulary) -> None:
    (token_id,) = byte_vocabulary.encode("<think>")
    assert byte_vocabulary.piece(token_id) == b"<think>"
    assert not byte_vocabulary.is_control(token_id)


def test_guessing_the_form_of_a_disguise_does_not_help(byte_vocabulary: Vocabulary) -> None:
    assert 0 not in byte_vocabulary.encode("\ue000:0\ue001\ue0000123456789abcdef01234567:0\ue001")


def test_lone_surrogates_become_replacement_characters(byte_vocabulary: Vocabulary) -> None:
    assert text_of(byte_vocabulary, byte_vocabulary.encode("a\ud83db")) == "a\ufffdb"


def test_the_vocabulary_knows_its_size_ends_and_start(write_gguf: WriteGguf, byte_level: dict[str, Any]) -> None:
    plain = load_vocabulary(write_gguf(byte_level))
    assert (plain.size, plain.end_ids, plain.bos_id) == (len(byte_level["tokens"]), (1,), None)
    assert load_vocabulary(write_gguf(byte_level, add_bos=True)).bos_id == 0


def test_the_end_of_a_turn_that_the_template_spells_ends_an_answer(
    write_gguf: WriteGguf, byte_level: dict[str, Any]
) -> None:
    vocabulary, template = load_text(write_gguf(byte_level, eos=0, template="{{ eos_token }}<|im_end|>"))
    assert vocabulary.end_ids == (0, 1)
    assert template is not None
    assert template.render([]) == [("<|im_start|><|im_end|>", True)]


def test_a_template_that_is_given_takes_the_place_of_a_files(write_gguf: WriteGguf, byte_level: dict[str, Any]) -> None:
    path = write_gguf(byte_level, eos=0, template="{{ eos_token }}")
    vocabulary, template = load_text(path, "{{ messages[0].content }}<|im_end|>")
    assert vocabulary.end_ids == (0, 1), "it ends turns by a token of its own"
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == [("x", False), ("<|im_end|>", True)]


def test_a_template_that_is_given_takes_the_place_of_a_folders(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    config = {"eos_token": START, "chat_template": "{{ eos_token }}"}
    path = write_folder(tmp_path / "model", byte_level, tokenizer_config=config)
    vocabulary, template = load_text(path, "{{ messages[0].content }}<|im_end|>")
    assert vocabulary.end_ids == tuple(vocabulary.encode(START + END, special=True))
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == [("x", False), (END, True)]


@fixtures_stay
@given(text=st.text("helot abc\u2581é漢\n", max_size=16))
def test_sentencepiece_text_has_the_ids_of_transformers(
    write_gguf: WriteGguf, sentencepiece: dict[str, Any], text: str
) -> None:
    path = write_gguf(sentencepiece)
    assert load_vocabulary(path).encode(text) == reference(path).encode(text, add_special_tokens=False)


@fixtures_stay
@given(text=st.text("helot abc", max_size=16))
def test_sentencepiece_merges_the_best_score_first(
    piece_vocabulary: Vocabulary, sentencepiece: dict[str, Any], text: str
) -> None:
    scores = {token: sentencepiece["scores"][place] for place, token in enumerate(sentencepiece["tokens"])}
    symbols = list("▁" * (not text.startswith(" ") and text != "") + text.replace(" ", "▁"))
    while pairs := [(scores[a + b], -place) for place, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]:
        place = -max(pairs)[1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    tokens = sentencepiece["tokens"]
    assert [tokens[token_id] for token_id in piece_vocabulary.encode(text)] == symbols


def test_sentencepiece_finds_whole_tokens_of_spaces_under_their_own_ids(
    write_gguf: WriteGguf, sentencepiece: dict[str, Any]
) -> None:
    tokens = [*sentencepiece["tokens"], "  ", "\n\n"]
    fields = {**sentencepiece, "tokens": tokens, "scores": [*sentencepiece["scores"], 0.0, 0.0]}
    vocabulary = load_vocabulary(write_gguf(fields, types=[*sentencepiece["types"], 4, 4], space_prefix=False))
    spaces, lines = len(tokens) - 2, len(tokens) - 1
    ids = vocabulary.encode("a  b\n\nc")
    assert spaces in ids
    assert lines in ids
    assert max(ids) < vocabulary.size == len(tokens)
    assert b"".join(vocabulary.piece(place) for place in ids) == b"a  b\n\nc"


def test_sentencepiece_spells_unknown_characters_in_bytes(piece_vocabulary: Vocabulary) -> None:
    ids = piece_vocabulary.encode("漢")
    assert b"".join(map(piece_vocabulary.piece, ids)) == " 漢".encode()
    assert piece_vocabulary.bos_id == 1
    assert 1 not in piece_vocabulary.encode("<s>")
    assert piece_vocabulary.encode("<s>", special=True) == [1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pre": "gpt-99"}, "pre-tokenizer 'gpt-99'.*expected one of .*llama-bpe"),
        ({"pre": None}, "names no pre-tokenizer"),
        ({"model": "bert"}, "tokenizer of kind 'bert'.*expected 'gpt2' or 'llama'"),
        ({"tokens": None}, "no list tokenizer.ggml.tokens"),
        ({"merges": ["ab"]}, "merge \\('ab',\\), expected two pieces"),
        ({"types": [1, 1]}, "tokens but 2 token types"),
        ({"eos": None}, "names no end token"),
        ({"model": "llama", "scores": [0.0]}, "tokens but 1 scores"),
    ],
)
def test_a_tokenizer_that_is_not_understood_is_refused(
    write_gguf: WriteGguf, byte_level: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_vocabulary(write_gguf(byte_level, **changes))


@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_each_known_kind_of_cut_gives_text_back(write_gguf: WriteGguf, byte_level: dict[str, Any], kind: str) -> None:
    vocabulary = load_vocabulary(write_gguf(byte_level, pre=kind))
    text = "I'll pay 1234 €,\r\n  the\tend 漢字!"
    assert text_of(vocabulary, vocabulary.encode(text)) == text
    assert (len(vocabulary.encode("12")) == 1) == (kind in ("gpt-2", "llama-bpe"))


def write_folder(path: Path, fields: dict[str, Any], **files: Any) -> Path:
    """Write what `fields` say in the Hugging Face layout; control tokens lie beyond the model's own vocabulary."""
    ordinary = fields["tokens"][2:-1]
    merges = [tuple(merge.split()) for merge in fields["merges"]]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(ordinary)}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(START, normalized=False), AddedToken(END, rstrip=True)])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    start = tokenizer.token_to_id(START)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    tokenizer.enable_truncation(4)
    path.mkdir(exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    contents = {"tokenizer_config": {"eos_token": {"content": END}, "bos_token": START}, **files}
    for name, content in contents.items():
        if content is not None:
            (path / f"{name}.json").write_text(json.dumps(content))
    return path


def vocabulary_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    found = tokenizer.get_vocab()
    return found[START], found[END]


def test_a_folder_gives_the_same_as_its_own_tokenizer(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "model", byte_level)
    original = Tokenizer.from_file(str(path / "tokenizer.json"))
    original.no_truncation()
    vocabulary, template = load_text(path)
    text = f"{START}the hello <think>in{END}  a\u0301 {START}"
    assert vocabulary.encode(text, special=True) == original.encode(text, add_special_tokens=False).ids
    start, end = vocabulary_ids(original)
    assert (vocabulary.bos_id, vocabulary.end_ids, vocabulary.size) == (start, (end,), original.get_vocab_size())
    assert start not in vocabulary.encode(text)
    assert vocabulary.is_control(end)
    assert vocabulary.piece(end) == b""
    assert template is None


def test_a_folders_end_tokens_come_from_its_generation_config_first(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    end = 268
    path = write_folder(
        tmp_path / "model", byte_level, generation_config={"eos_token_id": [5, 6]}, config={"eos_token_id": 7}
    )
    assert load_vocabulary(path).end_ids[:2] == (5, 6)
    (path / "generation_config.json").unlink()
    assert load_vocabulary(path).end_ids[0] == 7
    assert load_vocabulary(path).end_ids[1] >= end


@pytest.mark.parametrize("where", ["file", "text", "list"])
def test_a_folders_chat_template_is_found_where_it_lies(tmp_path: Path, byte_level: dict[str, Any], where: str) -> None:
    source = "{{ bos_token }}{{ messages[0].content }}"
    stored = {"text": source, "list": [{"name": "default", "template": source}], "file": None}[where]
    config = {"eos_token": END, "bos_token": START, "chat_template": stored}
    path = write_folder(tmp_path / "model", byte_level, tokenizer_config=config)
    if where == "file":
        (path / "chat_template.jinja").write_text(source)
    _, template = load_text(path)
    assert template is not None
    assert template.render([{"role": "user", "content": "x"}]) == [(START, True), ("x", False)]


def test_a_sentencepiece_folder_disguises_its_unknown_token_too(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "<0x0A>": 5, "▁a": 6}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true, "bos_token": "<s>", "eos_token": "</s>"}')
    loaded = load_vocabulary(tmp_path)
    for text in ("a a", "a\n", "<s>a</s>", "zz"):
        expected = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text, add_special_tokens=False).ids
        assert loaded.encode(text, special=True) == expected
    assert loaded.piece(6) == b" a"
    assert loaded.piece(5) == b"\n"
    assert (loaded.bos_id, loaded.end_ids) == (1, (2,))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{", "cannot be read as JSON"),
        ("tokenizer.json", "[]", "holds a list, expected a JSON object"),
        ("tokenizer.json", '{"model": {"type": "Odd"}, "decoder": {"type": "ByteLevel"}}', "is no tokenizer"),
        ("tokenizer.json", '{"model": {}, "decoder": {"type": "WordPiece"}}', "decodes by \\['WordPiece'\\]"),
        ("tokenizer_config.json", "{}", "names no end token"),
    ],
)
def test_a_broken_folder_is_refused_with_the_file_at_fault(
    tmp_path: Path, byte_level: dict[str, Any], name: str, content: str | None, sentence: str
) -> None:
    path = write_folder(tmp_path / "model", byte_level)
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_text(content)
    with pytest.raises(ModelError, match=sentence):
        load_vocabulary(path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_text(tmp_path / "nothing.gguf")
