"""``user/name`` and ``user/name@revision``: what a repository on the Hub is called."""

import re

_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[\w.-]{0,94}[\w])?"
_NAME = re.compile(rf"(?!runs/)({_PART}/{_PART})(?:@([\w][\w./-]*))?")


def is_hub_name(name: str) -> bool:
    """Whether ``name`` looks like a repository's, with a revision or without; one below ``runs/`` is a run's."""
    return _NAME.fullmatch(name) is not None


def split_hub_name(name: str) -> tuple[str, str | None]:
    """The repository and the revision, or None, of a name that ``is_hub_name``. Raises ValueError for any other."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f'"{name}" is not the name of a repository')
    return match[1], match[2]
