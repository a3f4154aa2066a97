import pytest

from gemmazero.hub_name import is_hub_name, split_hub_name


@pytest.mark.parametrize(
    "name", ["user/name", "a/b", "Some-One/gemma_3.1-nano", "user/name@main", "user/name@refs/pr/1"]
)
def test_a_repository_is_user_and_name_and_perhaps_a_revision(name: str) -> None:
    assert is_hub_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "name",
        "runs/nano",
        "a/b/c",
        "/a/b",
        "./a",
        "../a",
        "a/",
        "a/..",
        "~/a",
        "a b/c",
        "user/name@",
        "a/b.",
        "-a/b",
        "a//b",
    ],
)
def test_a_path_is_not_taken_for_one(name: str) -> None:
    assert not is_hub_name(name)
    with pytest.raises(ValueError, match="is not the name of a repository"):
        split_hub_name(name)


def test_a_name_is_split_at_its_revision() -> None:
    assert split_hub_name("user/name@v1.0") == ("user/name", "v1.0")
    assert split_hub_name("user/name") == ("user/name", None)
