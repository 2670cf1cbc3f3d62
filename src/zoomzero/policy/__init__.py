"""Policies: models that read video and text, write answers and choose between options.

`base` holds the protocol, its records and the capabilities a policy may have on top; it loads neither torch nor
transformers. `local.load.load_policy` loads a checkpoint.
"""

from zoomzero.policy.base import (
    BatchPolicy,
    Choice,
    Completion,
    Context,
    Policy,
    PrefixPolicy,
    Sampling,
    TokenCompletion,
    TrainablePolicy,
    Turn,
    Usage,
    Written,
)

__all__ = [
    "BatchPolicy",
    "Choice",
    "Completion",
    "Context",
    "Policy",
    "PrefixPolicy",
    "Sampling",
    "TokenCompletion",
    "TrainablePolicy",
    "Turn",
    "Usage",
    "Written",
]
