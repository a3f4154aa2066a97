import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gemma import random_gemma, spelling_gemma, transformers_twin

from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import UsageError
from gemmazero.inference.continuation import Continuation, Piece, continuing
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler

GREEDY = Sampler(temperature=0)
BYTES = make_tokenizer("bytes", list, turn_tokens=False)
CHAT_BYTES = make_tokenizer("bytes", list, turn_tokens=True)


def continue_text(model, tokenizer, prompts, **options) -> list[Continuation]:
    events = continuing(Generator(model), tokenizer, prompts, **options)
    return [event for event in events if isinstance(event, Continuation)]


def spelled(text: str, tokenizer: Tokenizer = BYTES, *, prompt: str = "", **options) -> Continuation:
    """What a model writes that knows nothing but ``text`` and the end of the document, over and over."""
    model = spelling_gemma([*tokenizer.encode(text), tokenizer.end_id], tokenizer.vocab_size)
    options = {"sampler": GREEDY, "max_tokens": 50, "seed": 0} | options
    return continue_text(model, tokenizer, [prompt], **options)[0]


def test_continuation_is_what_follows_the_prompt_up_to_the_end_token():
    result = spelled("Tom ran.", prompt="Tom")
    assert (result.prompt, result.text, result.tokens, result.finish) == ("Tom", " ran.", 6, "end")


def test_an_empty_prompt_begins_a_document():
    assert spelled("Tom ran.").text == "Tom ran."


def test_end_of_turn_ends_it_too():
    ids = [*CHAT_BYTES.encode("Yes"), CHAT_BYTES.turn_ids[1], *CHAT_BYTES.encode("No")]
    model = spelling_gemma(ids, CHAT_BYTES.vocab_size)
    result = continue_text(model, CHAT_BYTES, ["Y"], sampler=GREEDY, max_tokens=9, seed=0)[0]
    assert (result.text, result.tokens, result.finish) == ("es", 3, "end")


def test_max_tokens_finishes_by_length():
    result = spelled("Tom ran.", max_tokens=4)
    assert (result.text, result.tokens, result.finish) == ("Tom ", 4, "length")


def test_text_ends_before_the_stop_text():
    result = spelled("Tom ran.", stop=["ran", "xyz"])
    assert (result.text, result.tokens, result.finish) == ("Tom ", 7, "stop")


def test_what_only_began_like_a_stop_text_is_not_lost():
    for text in ("Tom ran.", "Tom ran"):
        result = spelled(text, stop=["ran away"])
        assert (result.text, result.finish) == (text, "end")


def test_a_character_cut_off_by_length_shows_as_replaced_not_as_half():
    assert spelled("añ", max_tokens=2).text == "a\N{REPLACEMENT CHARACTER}"
    assert spelled("añ", max_tokens=3).text == "añ"


def test_pieces_are_whole_characters():
    model = spelling_gemma([*BYTES.encode("añ€🦊."), BYTES.end_id], BYTES.vocab_size)
    events = continuing(Generator(model), BYTES, [""], sampler=GREEDY, max_tokens=50, seed=0)
    assert [event.text for event in events if isinstance(event, Piece)] == ["a", "ñ", "€", "🦊", "."]


@settings(max_examples=15)
@given(
    prompts=st.lists(st.text("ab cé", max_size=8), max_size=4),
    stop=st.lists(st.sampled_from(["a", "e", " t", "\N{REPLACEMENT CHARACTER}", "ab"]), max_size=2),
    seed=st.integers(0, 5),
)
def test_a_rows_pieces_joined_are_its_text_and_hold_no_stop_text(prompts, stop, seed):
    model = random_gemma(BYTES.vocab_size)
    events = list(continuing(Generator(model), BYTES, prompts, sampler=Sampler(), max_tokens=12, seed=seed, stop=stop))
    results = [event for event in events if isinstance(event, Continuation)]
    assert events[len(events) - len(results) :] == results, "the continuations come last"
    assert [result.prompt for result in results] == prompts
    for row, result in enumerate(results):
        assert "".join(event.text for event in events if isinstance(event, Piece) and event.row == row) == result.text
        assert not any(one in result.text for one in stop)
        assert result.tokens <= 12


def test_every_prompt_of_a_long_list_is_continued_as_if_alone_and_samples_differ():
    model = random_gemma(BYTES.vocab_size)
    prompts = [f"{'go ' * (row % 3)}{row}" for row in range(20)]
    options = {"max_tokens": 8, "seed": 0}
    together = continue_text(model, BYTES, prompts, sampler=GREEDY, **options)
    alone = [continue_text(model, BYTES, [prompt], sampler=GREEDY, **options)[0] for prompt in prompts]
    assert [result.text for result in together] == [result.text for result in alone]
    samples = continue_text(model, BYTES, ["go"] * 20, sampler=Sampler(), **options)
    assert len({sample.text for sample in samples}) == 20
    assert [sample.text for sample in samples] == [
        sample.text for sample in continue_text(model, BYTES, ["go"] * 20, sampler=Sampler(), **options)
    ]


def test_a_row_that_met_its_stop_text_does_not_hold_up_or_change_the_others():
    model = random_gemma(BYTES.vocab_size)
    free = continue_text(model, BYTES, ["aa", "b"], sampler=GREEDY, max_tokens=20, seed=0)
    stop = next(letter for letter in free[0].text if letter not in free[1].text)
    stopped = continue_text(model, BYTES, ["aa", "b"], sampler=GREEDY, max_tokens=20, seed=0, stop=[stop])
    assert stopped[0].text == free[0].text.split(stop)[0]
    assert (stopped[0].finish, stopped[1].finish) == ("stop", "length")
    assert stopped[1].text == free[1].text


def test_nothing_is_computed_after_the_last_row_is_finished():
    model = spelling_gemma([*BYTES.encode("Tom ran."), BYTES.end_id], BYTES.vocab_size)
    read = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape))
    results = continue_text(model, BYTES, ["T", "Tom"], sampler=GREEDY, max_tokens=100, seed=0, stop=["ran"])
    assert [result.tokens for result in results] == [6, 4]
    assert read == [(2, 3), *[(2, 1)] * 5]


def test_text_is_the_decoding_of_transformers_greedy_ids():
    model = random_gemma(BYTES.vocab_size)
    ids = torch.tensor([BYTES.encode("Once upon a time")])
    theirs = transformers_twin(model).generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
    )
    ours = continue_text(model, BYTES, ["Once upon a time"], sampler=GREEDY, max_tokens=24, seed=0)[0]
    assert ours.text == BYTES.decode(theirs[0, ids.shape[1] :].tolist())


def test_speed_is_tokens_over_seconds():
    result = spelled("Tom ran.")
    assert result.tokens_per_second == result.tokens / result.seconds


def test_no_prompts_give_no_continuations():
    assert continue_text(random_gemma(257), BYTES, [], sampler=GREEDY, max_tokens=5, seed=0) == []


def test_an_empty_stop_text_is_refused():
    with pytest.raises(UsageError, match="--stop"):
        spelled("ab", stop=[""])
