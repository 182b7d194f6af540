"""Change points of a series, as its model's record keeps them."""

from typing import Any

from models.changepoint import change_points
from service.storage.columns import Columns

#: Change points that a record keeps, the newest.
MOST = 20


def changes(learned: Columns) -> list[dict[str, Any]]:
    """Change points of what a model learns from (of a counter its rates), oldest first.

    Each with `at` in Unix seconds, `kind` (level or spread), `from`, `to` and `strength`.
    """
    return [
        {
            "at": point.t_ms / 1000,
            "kind": str(point.kind),
            "from": point.before,
            "to": point.after,
            "strength": round(point.strength, 1),
        }
        for point in change_points(*learned)[-MOST:]
    ]
