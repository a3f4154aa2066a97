import torch

from gemmazero.data.batch import Batch


def test_parts_of_a_batch_are_all_of_it_once() -> None:
    ids = torch.randint(0, 9, (8, 5), generator=torch.Generator().manual_seed(0))
    batch = Batch.of(ids, ids + 1, end_id=3)
    assert batch.documents is not None
    for size in (1, 3, 8, 20):
        parts = [batch.part(start, start + size, torch.device("cpu")) for start in range(0, 8, size)]
        assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
        assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
        assert torch.equal(torch.cat([part.documents for part in parts if part.documents is not None]), batch.documents)
    assert Batch.of(ids, ids, None).part(0, 3, torch.device("cpu")).documents is None
