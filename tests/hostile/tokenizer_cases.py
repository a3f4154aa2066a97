"""Tokenizers that take all memory, never end, or make the library panic."""

from collections.abc import Iterator
from typing import Any

from hostile.case import Case, Spoil, bytes_of, made_by
from hostile.json_cases import set_to, to_values

_END = "<|endoftext|>"


def token(content: str, token_id: Any) -> dict[str, Any]:
    """An added token."""
    kinds = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, **kinds, "special": True}


def more_tokens(*tokens: dict[str, Any]) -> Spoil:
    return to_values(lambda record: record["added_tokens"].extend(tokens))


def model(**changes: Any) -> Spoil:
    return to_values(lambda record: record["model"].update(changes))


def vocabulary(**tokens: Any) -> Spoil:
    return to_values(lambda record: record["model"]["vocab"].update(tokens))


def split_by(pattern: str) -> Spoil:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return set_to("pre_tokenizer", to=step)


def replacing(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def normalized_by(*steps: dict[str, Any]) -> Spoil:
    return set_to("normalizer", to={"type": "Sequence", "normalizers": list(steps)})


def of_type(kind: str, **settings: Any) -> Spoil:
    """Another model, whose vocabulary is two tokens."""
    return to_values(lambda record: record.update(added_tokens=[], model={"type": kind, **settings}))


def template(*pieces: dict[str, Any], tokens: dict[str, Any] | None = None) -> Spoil:
    step = {"type": "TemplateProcessing", "single": list(pieces), "pair": [], "special_tokens": tokens or {}}
    return set_to("post_processor", to=step)


def nested(kind: str, inside: str, depth: int) -> Any:
    step: Any = {"type": "Digits", "individual_digits": True}
    for _ in range(depth):
        step = {"type": kind, inside: [step]}
    return step


_TEXT = {"Sequence": {"id": "A", "type_id": 0}}
_UNIGRAM: dict[str, Any] = {"unk_id": 0, "byte_fallback": False}

REFUSED: dict[str, Spoil] = {
    "an id of 2^32 - 1": more_tokens(token("<far>", 2**32 - 1)),
    "an id of 2^32": more_tokens(token("<far>", 2**32)),
    "an id of 2^64": more_tokens(token("<far>", 2**64)),
    "an id of -1": more_tokens(token("<far>", -1)),
    "an id that is a text": more_tokens(token("<far>", "257")),
    "an id that is not the next": more_tokens(token("<far>", 5000)),
    "an id that another token has": more_tokens(token("<same>", 3)),
    "an added token without content": more_tokens(token("", 257)),
    "an added token of a million characters": made_by(lambda: more_tokens(token("x" * 1_000_000, 257))),
    "an added token that is a list": to_values(lambda record: record["added_tokens"].append([])),
    "added tokens that are an object": set_to("added_tokens", to={}),
    "two hundred thousand added tokens": made_by(
        lambda: more_tokens(*(token(f"<{n}>", 257 + n) for n in range(200_000)))),
    "no added tokens, so no end": set_to("added_tokens", to=[]),
    "no model": set_to("model", to=None),
    "a model that is a list": set_to("model", to=[]),
    "a model of an unknown type": model(type="Hostile"),
    "a vocabulary id of 2^32 - 1": vocabulary(far=2**32 - 1),
    "a vocabulary id of 2^32": vocabulary(far=2**32),
    "a vocabulary id of -1": vocabulary(far=-1),
    "a vocabulary id that is a fraction": vocabulary(far=300.5),
    "a vocabulary id given twice": vocabulary(far=3),
    "a vocabulary that is a text": model(vocab="abc"),
    "a vocabulary of lists": model(vocab=[["a", ["b"]]]),
    "no vocabulary": model(vocab={}),
    "a vocabulary of two million tokens": made_by(
        lambda: model(vocab={f"{number:x}": number for number in range(2_000_000)})),
    "merges of an unknown token": model(merges=[["zz", "yy"]]),
    "merges of nothing": model(merges=[["", ""]]),
    "merges of three": model(merges=[["a", "b", "c"]]),
    "merges of numbers": model(merges=[[1, 2]]),
    "merges of one text": model(merges=["ab"]),
    "merges whose result is not there": model(merges=[["a", "b"], ["b", "a"]]),
    "a million merges": made_by(lambda: model(merges=[["a", "b"]] * 1_100_000)),
    "merges with a prefix longer than they are": model(merges=[["a", "b"]], continuing_subword_prefix="xxxxxxxxxx"),
    "a dropout of 2": model(dropout=2.0),
    "a pattern that does not end": split_by("("),
    "a pattern of a hundred thousand alternatives": made_by(
        lambda: split_by("|".join(f"a{number}" for number in range(100_000)))),
    "a pattern of groups within groups": split_by("(" * 10_000 + ")" * 10_000),
    "a normalizer that makes a hundred thousand of one": normalized_by(replacing({"Regex": "."}, "x" * 100_000)),
    "a normalizer that doubles forty times": normalized_by(*[replacing({"String": "a"}, "aa")] * 40),
    "a normalizer that puts a text between all": normalized_by(replacing({"Regex": ""}, "x" * 2000)),
    "a normalizer that prepends a million": made_by(
        lambda: set_to("normalizer", to={"type": "Prepend", "prepend": "x" * 1_000_000})),
    "a charsmap that is none": set_to("normalizer", to={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a charsmap of four gigabytes": set_to("normalizer", to={"type": "Precompiled", "precompiled_charsmap": "/" * 8}),
    "a charsmap that is no text": set_to("normalizer", to={"type": "Precompiled", "precompiled_charsmap": [1]}),
    "a charsmap that is no base64": set_to("normalizer", to={"type": "Precompiled", "precompiled_charsmap": "€"}),
    "byte-level forty times": set_to("pre_tokenizer", to={"type": "Sequence", "pretokenizers": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}] * 40}),
    "steps within steps": set_to("pre_tokenizer", to=nested("Sequence", "pretokenizers", 200)),
    "pieces of no length": set_to("pre_tokenizer", to={"type": "FixedLength", "length": 0}),
    "a step of an unknown type": set_to("pre_tokenizer", to={"type": "Hostile"}),
    "a step that is a text": set_to("pre_tokenizer", to="ByteLevel"),
    "a replacement of two characters": set_to("pre_tokenizer", to={
        "type": "Metaspace", "replacement": "ab", "prepend_scheme": "always", "split": True}),
    "a template without its token": template({"SpecialToken": {"id": "<absent>", "type_id": 0}}, _TEXT),
    "a template of a hundred thousand texts": made_by(lambda: template(*[_TEXT] * 100_000)),
    "a template of a million ids": made_by(
        lambda: template(_TEXT, tokens={_END: {"id": _END, "ids": [1] * 1_000_000, "tokens": [_END] * 1_000_000}})),
    "a template that is no list": set_to("post_processor", to={
        "type": "TemplateProcessing", "single": "$A", "pair": "$A", "special_tokens": 7}),
    "a decoder that strips 10^18": set_to("decoder", to={"type": "Strip", "content": "a", "start": 10**18, "stop": 0}),
    "a decoder that strips more than there is": set_to("decoder", to={
        "type": "Strip", "content": "a", "start": 1000, "stop": 1000}),
    "a decoder that makes a thousand of one": set_to("decoder", to=replacing({"Regex": "a"}, "x" * 1000)),
    "a unigram of nothing": of_type("Unigram", vocab=[], **_UNIGRAM),
    "a unigram without a known end": of_type("Unigram", vocab=[["a", 0.0], ["b", 0.0]], **_UNIGRAM),
    "a unigram whose unknown is beyond it": of_type("Unigram", vocab=[["a", 0.0], [_END, 0.0]], unk_id=10**9),
    "a unigram of a tree of ten million nodes": made_by(
        lambda: of_type("Unigram", vocab=[[_END, 0.0], *([f"{n:06d}" * 20, -1.0] for n in range(100_000))],
            **_UNIGRAM)),
    "a unigram of one token of forty megabytes": made_by(
        lambda: of_type("Unigram", vocab=[[_END, 0.0], ["x" * 40_000_000, -1.0]], **_UNIGRAM)),
    "a wordlevel that lacks its unknown": of_type("WordLevel", vocab={"a": 0, _END: 1}, unk_token="<absent>"),
    "padding of another type": set_to("padding", to={"strategy": "Hostile"}),
    "ids that the model does not embed": more_tokens(
        *({**token(f"<{number}>", 257 + number), "special": False} for number in range(10))
    ),
}  # fmt: skip

HARMLESS: dict[str, Spoil] = {
    "padding to a trillion": set_to("padding", to={
        "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "x"}),
    "truncation to one": set_to("truncation", to={
        "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    "a unigram of scores that sum to nothing": of_type(
        "Unigram", vocab=[["a", -1e308], [_END, -1e308]], **_UNIGRAM),
    "a pattern that repeats a billion times": split_by("(((a{1000}){1000}){1000}){1000}"),
    "an empty pattern": split_by(""),
    "a decoder that strips much of the beginning": set_to("decoder", to={
        "type": "Strip", "content": "a", "start": 1000, "stop": 0}),
    "an unknown token that is not there": model(unk_token="<absent>"),
    "a suffix of a thousand characters": model(end_of_word_suffix="x" * 1000),
}  # fmt: skip

CONFIGS: dict[str, tuple[Spoil, bool]] = {  # of the special tokens, and whether that is harmless
    "an end that is not there": (set_to("eos_token", to="<absent>"), False),
    "an end that is empty": (set_to("eos_token", to=""), False),
    "an end of a million characters": (made_by(lambda: set_to("eos_token", to="x" * 1_000_000)), False),
    "an end that moves the cursor": (set_to("eos_token", to="\x1b[2J\x07"), False),
    "an end that is a number": (set_to("eos_token", to=7), True),
    "code from the repository": (set_to("auto_map", to={"AutoTokenizer": ["evil.Tokenizer", None]}), True),
    "a class of its own": (set_to("tokenizer_class", to="EvilTokenizer"), True),
    "a chat template that runs code": (
        set_to(
            "chat_template", to="{{ ''.__class__.__mro__[1].__subclasses__() }}{% for x in range(10**9) %}{% endfor %}"
        ),
        True,
    ),
}


def tokenizer_cases() -> Iterator[Case]:
    for name, spoil in REFUSED.items():
        yield Case(name, "model", "tokenizer.json", "load", spoil)
    for name, spoil in HARMLESS.items():
        yield Case(name, "model", "tokenizer.json", "load", spoil, is_harmless=True)
        yield Case(name, "model", "tokenizer.json", "prepare_with_a_tokenizer", spoil, is_harmless=True)
    for name, (spoil, is_harmless) in CONFIGS.items():
        yield Case(name, "model", "tokenizer_config.json", "load", spoil, is_harmless=is_harmless)
    large = bytes_of(b"{{ messages }}", times=1_000_000)
    yield Case("fourteen megabytes", "model", "chat_template.jinja", "load", large)
    yield Case("no UTF-8", "model", "chat_template.jinja", "load", bytes_of(b"\xff\xfe"))
    for name in ("a normalizer that doubles forty times", "a charsmap of four gigabytes", "an id of 2^32 - 1"):
        yield Case(name, "model", "tokenizer.json", "prepare_with_a_tokenizer", REFUSED[name])
        yield Case(name, "model", "tokenizer.json", "convert", REFUSED[name])
