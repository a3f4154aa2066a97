import pytest

from mutations import MUTATIONS, ROOT, SOURCE, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_can_be_made_and_has_its_tests(mutation: Mutation) -> None:
    assert (SOURCE / mutation.file).read_text(encoding="utf-8").count(mutation.before) == 1
    assert mutation.after != mutation.before
    assert all((ROOT / tests).is_file() for tests in mutation.tests.split())


def test_mutations_are_many_and_differ() -> None:
    assert len({(mutation.file, mutation.before) for mutation in MUTATIONS}) == len(MUTATIONS) >= 20


def test_readme_counts_the_mutations() -> None:
    assert f"`make test-mutations`: {len(MUTATIONS)} small wrong changes" in (ROOT / "README.md").read_text("utf-8")
