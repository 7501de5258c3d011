"""Rows as tensors of torch.

.. code-block:: python

    for batch in db.table("docs").select("id, embedding").to_torch(batch_size=1024, shuffle=True, seed=7):
        batch["embedding"]        # a tensor (1024, 384), the memory of the result

``dataset`` gives an iterable that ``torch.utils.data.DataLoader(…, batch_size=None)`` takes too.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from ._convert import _distinct


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("tensors need torch: pip install torch") from error
    return torch


def _tensor(column: Any) -> Any:
    torch = _torch()
    import numpy

    memory = column.memory()
    if memory is None:
        return column.to_pylist()
    if column.null_count:
        raise ValueError(f"the column {column.name!r} holds NULLs, which tensors do not; fill or filter them")
    values = numpy.asarray(memory)
    if values.dtype.kind in "Mm":
        values = values.view("int64")
    # torch has no read-only tensors: what is written to them must not reach the engine's memory.
    return torch.from_numpy(values.copy())


def tensors(batches: Any) -> Dict[str, Any]:
    """A dict of tensors; columns of texts are lists."""
    names = _distinct([name for name, _, _ in batches.schema.fields()])
    return {name: _tensor(batches.column(i)) for i, name in enumerate(names)}


class Batches:
    """Batches of tensors; iterating again runs the query again."""

    def __init__(self, relation: Any, batch_size: int, shuffle: bool, seed: Optional[int], drop_last: bool) -> None:
        self.relation, self.batch_size, self.shuffle = relation, batch_size, shuffle
        self.seed, self.drop_last = seed, drop_last
        self.epoch = 0

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        torch = _torch()
        data = tensors(self.relation.read())
        count = len(next(iter(data.values()))) if data else 0
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed((self.seed or 0) + self.epoch)
            rows = torch.randperm(count, generator=generator)
        else:
            rows = torch.arange(count)
        self.epoch += 1
        for at in range(0, count, self.batch_size):
            some = rows[at : at + self.batch_size]
            if self.drop_last and len(some) < self.batch_size:
                return
            yield {n: [v[i] for i in some.tolist()] if isinstance(v, list) else v[some] for n, v in data.items()}


def dataset(relation: Any, batch_size: int = 1024, shuffle: bool = False, seed: Optional[int] = None,
            drop_last: bool = False) -> Batches:
    """An iterable of batches of tensors. With ``shuffle`` each pass has an order of its own, told by ``seed``.
    The rows are in memory while they are passed over."""
    return Batches(relation, batch_size, shuffle, seed, drop_last)
