"""What the teacher says of every training image, on disk."""

from .knowledge import CachedKnowledge
from .layout import shard_folder
from .lock import shard_lock
from .making import ShardPlan, plan_shard, run_teacher
from .reader import DatasetCache

__all__ = [
    "CachedKnowledge",
    "DatasetCache",
    "ShardPlan",
    "plan_shard",
    "run_teacher",
    "shard_folder",
    "shard_lock",
]
