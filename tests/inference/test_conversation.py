import json

import pytest
import torch
from tiny_gemma import random_gemma, spelling_gemma

from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import UsageError
from gemmazero.inference.conversation import Conversation
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler
from gemmazero.inference.template import ChatTemplate, StoryTemplate
from gemmazero.model.gemma import Gemma

GREEDY = Sampler(temperature=0)
CHAT = make_tokenizer("bytes", list, turn_tokens=True)
STORY = make_tokenizer("bytes", list, turn_tokens=False)
BOTH = pytest.mark.parametrize("tokenizer", [CHAT, STORY], ids=["chat", "story"])


def conversation(tokenizer: Tokenizer, model: Gemma | None = None, **options) -> Conversation:
    model = model or random_gemma(tokenizer.vocab_size, context=512)
    chosen = {"max_tokens": 12, "seed": 0} | options
    generator = Generator(model, compile=chosen.pop("compile", None))
    return Conversation(generator, tokenizer, chosen.pop("sampler", GREEDY), **chosen)


def say(talk: Conversation, *texts: str) -> list[str]:
    return ["".join(talk.reply(text)) for text in texts]


def ids_read(talk: Conversation, tokenizer: Tokenizer, user: str) -> list[int]:
    """The whole prompt of the next turn, from the template alone."""
    template = ChatTemplate(tokenizer) if tokenizer.turn_ids else StoryTemplate(tokenizer)
    return template.prompt(talk.system, talk.exchanges, user, 10_000).ids


def count_reads(model: Gemma) -> list[int]:
    read: list[int] = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    return read


@torch.no_grad()
def likeliest(model: Gemma, prompt: list[int], count: int) -> tuple[int, ...]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_mode_follows_the_turn_tokens():
    assert conversation(CHAT).mode == "chat"
    assert conversation(STORY).mode == "story"


def test_a_chat_reply_is_the_text_up_to_the_end_of_turn():
    model = spelling_gemma([*CHAT.encode("\nHi é!"), CHAT.turn_ids[1]], CHAT.vocab_size)
    talk = conversation(CHAT, model)
    assert list(talk.reply("Hello")) == ["H", "i", " ", "é", "!"]
    assert say(talk, "Again") == ["Hi é!"]
    assert [(exchange.user, exchange.reply) for exchange in talk.exchanges] == [("Hello", "Hi é!"), ("Again", "Hi é!")]


def test_a_story_goes_on_where_the_user_stopped():
    talk = conversation(STORY, spelling_gemma(STORY.encode("The catsOp?"), STORY.vocab_size), max_tokens=3)
    assert say(talk, "Th", "", "Oops, no c") == ["e c", "ats", "ats"]


@BOTH
def test_every_reply_equals_that_of_a_fresh_prefill(tokenizer):
    talk = conversation(tokenizer, system="Be a cat.")
    fresh = random_gemma(tokenizer.vocab_size, context=512)
    for text in ("Hello", "What now?", "<start_of_turn>user", ""):
        prompt = ids_read(talk, tokenizer, text)
        say(talk, text)
        written = talk.exchanges[-1].reply_ids
        assert written == likeliest(fresh, prompt, len(written))


@BOTH
def test_only_new_ids_are_read(tokenizer):
    model = random_gemma(tokenizer.vocab_size, context=512)
    read = count_reads(model)
    talk = conversation(tokenizer, model)
    say(talk, "Hello", "What now?")
    prompt = ids_read(talk, tokenizer, "The end")
    say(talk, "The end")
    assert sum(read) == len(prompt) + len(talk.exchanges[-1].reply_ids) - 1, "the last id is never read"


@BOTH
@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_reply_closed_midway_keeps_what_was_said_and_the_cache(tokenizer, pieces):
    model = random_gemma(tokenizer.vocab_size, context=512)
    read = count_reads(model)
    talk = conversation(tokenizer, model)
    say(talk, "Hello")
    reply = talk.reply("Tell me more")
    said = "".join(next(reply) for _ in range(pieces))
    reply.close()
    assert [exchange.reply for exchange in talk.exchanges[1:]] == [said] * (pieces > 0)
    prompt = ids_read(talk, tokenizer, "Go on")
    say(talk, "Go on")
    written = talk.exchanges[-1].reply_ids
    assert sum(read) == len(prompt) + len(written) - 1
    assert written == likeliest(random_gemma(tokenizer.vocab_size, context=512), prompt, len(written))


@BOTH
@pytest.mark.parametrize("compile", [False, None], ids=["within a layer", "before machine code"])
def test_an_interrupt_keeps_what_was_said_and_no_half_written_cache(tokenizer, compile):
    model = random_gemma(tokenizer.vocab_size, context=512)
    talk = conversation(tokenizer, model, compile=compile)
    reply = talk.reply("Hello")
    said = next(reply)

    def interrupt(*_):
        raise KeyboardInterrupt

    out = model.model.layers[1].self_attn.o_proj  # the first layers' caches have the token, later ones have not
    part = out if compile is False else model.model.embed_tokens  # all have a place for it
    hook = part.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(reply)
    hook.remove()
    assert [exchange.reply for exchange in talk.exchanges] == [said]
    prompt = ids_read(talk, tokenizer, "Go on")
    say(talk, "Go on")
    written = talk.exchanges[-1].reply_ids
    assert written == likeliest(random_gemma(tokenizer.vocab_size, context=512), prompt, len(written))


@BOTH
def test_undo_takes_back_one_exchange_and_all_that_the_model_saw_of_it(tokenizer):
    talk, straight = conversation(tokenizer), conversation(tokenizer)
    say(talk, "Hello", "A mistake")
    assert talk.undo().user == "A mistake"
    say(straight, "Hello")
    assert say(talk, "What now?") == say(straight, "What now?")
    assert talk.exchanges == straight.exchanges


def test_undo_of_nothing_is_nothing():
    assert conversation(CHAT).undo() is None


@BOTH
def test_reset_begins_anew_with_the_same_system_text(tokenizer):
    talk = conversation(tokenizer, system="Be a cat.")
    first = say(talk, "Hello")
    say(talk, "More")
    talk.reset()
    assert talk.exchanges == ()
    assert say(talk, "Hello") == first


@BOTH
def test_a_new_system_text_counts_from_the_next_reply(tokenizer):
    talk, straight = conversation(tokenizer), conversation(tokenizer, system="Be a dog.")
    talk.system = "Be a dog."
    assert say(talk, "Hello") == say(straight, "Hello")


@BOTH
def test_a_saved_conversation_goes_on_as_if_never_left(tokenizer):
    vocabulary = [*tokenizer.encode("\nHi!"), (tokenizer.turn_ids or [tokenizer.end_id])[-1]]
    model = spelling_gemma(vocabulary, tokenizer.vocab_size)
    talk, loaded = (conversation(tokenizer, model, system="Be kind.", max_tokens=3) for _ in range(2))
    say(talk, "One", "Two\n")
    loaded.from_json(json.loads(json.dumps(talk.to_json())))
    assert loaded.to_json() == talk.to_json()
    assert ids_read(loaded, tokenizer, "Three") == ids_read(talk, tokenizer, "Three")
    assert say(loaded, "Three\n") == say(talk, "Three\n")


def test_saved_messages_are_those_of_a_chat_template():
    talk = conversation(
        CHAT, spelling_gemma([*CHAT.encode("\nHi!"), CHAT.turn_ids[1]], CHAT.vocab_size), system="Sing."
    )
    say(talk, "One")
    assert talk.to_json() == {
        "messages": [
            {"role": "system", "content": "Sing."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Hi!"},
        ]
    }


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"messages": None},
        {"messages": ["Hello"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": 3}]},
        {"messages": [{"role": "user", "content": "Hello"}]},
        {"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello"}]},
    ],
)
def test_anything_else_is_refused_and_changes_nothing(record):
    talk = conversation(CHAT)
    say(talk, "Hello")
    before = talk.exchanges
    with pytest.raises(UsageError, match=r"^not a saved conversation"):
        talk.from_json(record)
    assert talk.exchanges == before


def test_a_full_context_forgets_the_oldest_turns_and_says_so():
    model = random_gemma(CHAT.vocab_size, context=96)
    talk = conversation(CHAT, model)
    forgotten = []
    for number in range(8):
        say(talk, f"Turn {number}")
        forgotten.append(talk.forgotten)
    assert forgotten[0] == 0
    assert forgotten == sorted(forgotten)
    assert forgotten[-1] >= 5
    assert len(talk.exchanges) == 8, "what the model forgot is still in the conversation"
    seen = ChatTemplate(CHAT).prompt("", talk.exchanges[talk.forgotten : -1], "Turn 7", 10_000).ids
    assert len(seen) + 12 <= 96
    written = talk.exchanges[-1].reply_ids
    assert written == likeliest(random_gemma(CHAT.vocab_size, context=96), seen, len(written))


def test_a_story_longer_than_the_context_goes_on():
    talk = conversation(STORY, random_gemma(STORY.vocab_size, context=32), max_tokens=100)
    say(talk, "Once", "", "", "")
    assert [len(exchange.reply_ids) for exchange in talk.exchanges] == [28, 16, 16, 16]
    assert talk.forgotten == 2


def test_a_turn_that_fills_the_context_is_refused_and_not_kept():
    talk = conversation(CHAT, random_gemma(CHAT.vocab_size, context=64))
    with pytest.raises(UsageError, match="the model's context 64"):
        say(talk, "x" * 64)
    assert talk.exchanges == ()


def test_replies_of_one_seed_are_the_same_and_differ_from_turn_to_turn():
    first, again = (conversation(STORY, sampler=Sampler()) for _ in range(2))
    assert say(first, "A", "B") == say(again, "A", "B")
    first.undo()
    second = say(first, "B")
    assert second != [again.exchanges[1].reply], "said again after undo, another reply"
