import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.data.batch import Batch

CPU = torch.device("cpu")


@given(windows=st.integers(1, 40), size=st.integers(1, 50), ranks=st.integers(1, 12), is_masked=st.booleans())
def test_ranks_and_micro_batches_partition_the_batch(windows: int, size: int, ranks: int, is_masked: bool) -> None:
    ids = torch.arange(windows * 5).view(windows, 5)
    batch = Batch.of(ids, ids + 1, end_id=7 if is_masked else None)
    shares = [list(batch.micro_batches(size, CPU, rank=rank, ranks=ranks)) for rank in range(ranks)]
    counts = [sum(len(part.ids) for part in share) for share in shares]
    assert max(counts) - min(counts) <= 1
    parts = [part for share in shares for part in share]
    assert all(1 <= len(part.ids) <= size for part in parts)
    assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    if batch.documents is None:
        assert all(part.documents is None for part in parts)
    else:
        documents = [part.documents for part in parts if part.documents is not None]
        assert torch.equal(torch.cat(documents), batch.documents)


def test_one_process_has_the_whole_batch() -> None:
    batch = Batch.of(torch.arange(15).view(3, 5), torch.arange(15).view(3, 5), None)
    assert [part.ids.tolist() for part in batch.micro_batches(2, CPU)] == [
        batch.ids[:2].tolist(),
        batch.ids[2:].tolist(),
    ]
