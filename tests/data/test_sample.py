import os
import re
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from itertools import islice

import pytest

from gemmazero.data.sample import STORIES, stories
from gemmazero.data.sample_plots import PLOTS
from gemmazero.data.sample_words import LISTS, PHRASES, TABLES

NAMES = {row.split(",")[0].strip() for row in TABLES["name"].split(";")[1:]}

# The first story of seed 0 and the digest of its first hundred: the corpus may never change by accident.
FIRST = (
    "Once upon a time, a graceful mouse named Matilda lived near a pond. One day, a big bear came to "
    'drink at the pond. "You are so small!" laughed the bear. "I am small, but I can be a good friend," '
    "said Matilda.\n\nThe next morning, Matilda heard a terrible cry. The bear was caught in a net under a "
    "fir tree! Matilda was afraid, but she ran to help. She bit the ropes, one by one, until the bear was"
    ' free.\n\n"I was wrong about you," said the bear. The bear let Matilda ride on its back. Being small '
    "does not mean being weak."
)
DIGEST_OF_A_HUNDRED = "bddfd9167ff94f26ac27859b42625a633fae2be7ef93295ed504b22764540f08"


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return list(stories(0))


def sentences(story: str) -> list[str]:
    return [part for part in re.split(r'(?<=[.!?])"?\s+', story) if part]


def test_corpus_is_about_two_megabytes_of_at_least_five_thousand_stories(corpus: list[str]) -> None:
    assert len(corpus) == STORIES >= 5_000
    assert 1_900_000 < sum(len(story.encode()) for story in corpus) < 2_600_000


def test_corpus_has_at_least_fifteen_hundred_word_types(corpus: list[str]) -> None:
    assert len({word for story in corpus for word in re.findall(r"[a-z]+", story.lower())}) >= 1_500


@pytest.mark.parametrize("seed", [0, 1, -1])
def test_no_two_stories_are_alike(seed: int) -> None:
    told = list(stories(seed))
    assert len(set(told)) == len(told)


def test_every_story_has_a_small_number_of_words(corpus: list[str]) -> None:
    lengths = [len(story.split()) for story in corpus]
    assert min(lengths) >= 50
    assert max(lengths) <= 140


def test_stories_of_a_seed_never_change() -> None:
    hundred = list(islice(stories(0), 100))
    assert hundred[0] == FIRST
    assert sha256("\n".join(hundred).encode()).hexdigest() == DIGEST_OF_A_HUNDRED


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_stories_are_the_same_in_another_process(corpus: list[str], hash_seed: str) -> None:
    program = (
        "from hashlib import sha256; from gemmazero.data.sample import stories; "
        "print(sha256('|'.join(stories(0)).encode()).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == sha256("|".join(corpus).encode()).hexdigest()


def test_different_seeds_tell_different_stories(corpus: list[str]) -> None:
    assert len(set(corpus) & set(stories(1))) < len(corpus) / 100


def test_every_story_is_complete(corpus: list[str]) -> None:
    for story in corpus:
        assert story[0].isupper(), story
        assert re.search(r'[.!?]"?$', story), story


def test_every_sentence_begins_with_a_capital(corpus: list[str]) -> None:
    for story in corpus:
        assert not re.search(r'[.!?] "?[a-z]', story), story
        assert not re.search(r'\n"?[a-z]', story), story


def test_quotation_marks_balance_in_every_paragraph(corpus: list[str]) -> None:
    for story in corpus:
        for paragraph in story.split("\n\n"):
            assert paragraph.count('"') % 2 == 0, story
            for quotation in paragraph.split('"')[1::2]:
                assert re.fullmatch(r"[A-Z].*[.,!?]", quotation), story


def test_no_trace_of_the_grammar_is_left(corpus: list[str]) -> None:
    for story in corpus:
        assert re.fullmatch(r"(?:[A-Za-z\"'.,!?-]+(?: |\n\n|$))+", story), story
        assert not re.search(r"\s[.,!?]|[.,!?]{2}|  |\b(\w+) \1\b", story), story


def test_some_stories_have_paragraphs_and_some_have_not(corpus: list[str]) -> None:
    share = sum("\n\n" in story for story in corpus) / len(corpus)
    assert 0.4 < share < 0.6


def test_articles_agree_with_the_next_sound(corpus: list[str]) -> None:
    consonant_sounds = {"unicorn", "useful", "ukulele", "one"}
    vowel_sounds = {"honest", "hour"}
    for story in corpus:
        for article, word in re.findall(r"\b([Aa]n?) (\w[\w-]*)", story):
            vowel = word in vowel_sounds or (word[0].lower() in "aeiou" and word not in consonant_sounds)
            assert (article.lower() == "an") == vowel, f"{article} {word} in: {story}"


def test_the_hero_named_in_the_opening_comes_back_near_the_end(corpus: list[str]) -> None:
    for story in corpus:
        hero = next(word for word in re.findall(r"\w+", story) if word in NAMES)
        assert story.index(hero) < 120, story
        assert re.search(rf"\b{hero}\b", story[len(story) // 2 :]), story


def test_pronouns_of_the_hero_agree_with_the_opening(corpus: list[str]) -> None:
    for story in corpus:
        opening = re.match(r"[^.]*\b(boy|girl) named (\w+)[^.]*\. (He|She)\b", story)
        if opening:
            assert (opening[1] == "boy") == (opening[3] == "He"), story


def test_no_sentence_is_said_twice_in_a_story(corpus: list[str]) -> None:
    for story in corpus:
        counts = Counter(sentences(story))
        repeated = [sentence for sentence in counts if counts[sentence] > 1]
        # Who speaks may be said twice; what is said may not.
        assert all(re.match(r"(he|she|said|called|cried|asked)\b", sentence) for sentence in repeated), (
            repeated,
            story,
        )


def test_many_stories_open_the_way_people_prompt(corpus: list[str]) -> None:
    assert sum(story.startswith("Once upon a time") for story in corpus) > len(corpus) / 3
    assert sum(story.startswith("One day") for story in corpus) > len(corpus) / 10


def test_there_are_at_least_twenty_five_plots_with_their_own_words() -> None:
    assert len(PLOTS) >= 25
    assert len(set(PLOTS)) == len(PLOTS)


def test_no_list_has_a_word_twice() -> None:
    for name, words in LISTS.items():
        listed = [" ".join(word.split()) for word in words.split(",")]
        assert len(set(listed)) == len(listed), name


def test_slots_and_words_belong_together() -> None:
    text = "\n".join([*PLOTS, *PHRASES.values()])
    set_by_plots = set(re.findall(r"\{(\w+)=", text))
    used = {slot.lower().rstrip("23") for slot in re.findall(r"\{(\w+)[.}]", text)}
    assert used == set_by_plots | {name.rstrip("23") for name in LISTS | TABLES | PHRASES}
