"""How a text becomes a score: the one implementation that training, evaluation and serving share.

A copy of this folder travels with every registered version, so that a version scores with the code it was certified
with; therefore it imports nothing of rewardloop outside itself. The score is read at the last token of the response
(explicitly: libraries that look for the last token which is not padding misread bases whose padding token also ends a
turn).
"""

from .attention import Reading, prepare_reading, read_packed, read_padded
from .encoding import Encoded, Encoder, Encoding, Messages, as_messages
from .last_layer import decoder_layers
from .packing import Block, PackedRow, pack, pad, share_prompts, split_blocks
from .scale import Floats, public_score
from .scorer import RewardScorer

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
    "decoder_layers",
    "pack",
    "pad",
    "prepare_reading",
    "public_score",
    "read_packed",
    "read_padded",
    "share_prompts",
    "split_blocks",
]
