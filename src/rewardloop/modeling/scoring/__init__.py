"""How a text becomes a score: the one implementation that training, evaluation and serving share.

A copy of this folder travels with every registered version, so that a version scores with the code it was certified
with; therefore it imports nothing of rewardloop outside itself. The score is read at the last token of the response
(explicitly: libraries that look for the last token which is not padding misread bases whose padding token also ends a
turn).
"""

from .attention import Reading, leave_parts_uncompiled, prepare_reading, read_hidden, read_packed, read_padded
from .encoding import Encoded, Encoder, Encoding, Messages, as_messages, plain_turns
from .last_layer import decoder_layers
from .linear import linear, speed_up_linear_layers
from .packing import Block, PackedRow, fill_rows, pack, pad, share_prompts, split_blocks
from .scale import Floats, decisions, public_score
from .scorer import RewardScorer, fast_bfloat16

__all__ = [
    "Block",
    "Encoded",
    "Encoder",
    "Encoding",
    "Floats",
    "Messages",
    "PackedRow",
    "Reading",
    "RewardScorer",
    "as_messages",
    "decisions",
    "decoder_layers",
    "fast_bfloat16",
    "fill_rows",
    "leave_parts_uncompiled",
    "linear",
    "pack",
    "pad",
    "plain_turns",
    "prepare_reading",
    "public_score",
    "read_hidden",
    "read_packed",
    "read_padded",
    "share_prompts",
    "speed_up_linear_layers",
    "split_blocks",
]
