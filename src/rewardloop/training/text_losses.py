"""How surprised a policy is by texts that nobody generated: what alignment made it forget.

In: texts as tokens. Out: mean negative log-likelihood per token, for each text.
"""

from collections.abc import Sequence

import numpy as np
import torch

from rewardloop.modeling.policy import Policy
from rewardloop.modeling.policy_rows import RowReader
from rewardloop.modeling.scoring import Block, Floats, Messages, fill_rows
from rewardloop.modeling.token_logprobs import token_logprobs


def text_blocks(policy: Policy, texts: Sequence[tuple[Messages, str]]) -> list[Block]:
    """(prompt, text) as tokens; a text without a prompt is predicted from its own first token on."""
    blocks = []
    for prompt, text in texts:
        ids = list(policy.tokenizer(text, add_special_tokens=not prompt)["input_ids"])[: policy.context // 2]
        head = policy.prompt_ids(prompt)[-(policy.context // 2) :] if prompt else ids[:1]
        tail = ids if prompt else ids[1:]
        if tail:
            blocks.append(Block(head, (tail,)))
    return blocks


@torch.no_grad()
def text_losses(policy: Policy, blocks: Sequence[Block], tokens_per_batch: int) -> Floats:
    """Mean negative log-likelihood per token of each block's text, in nats, float64 of shape (blocks,)."""
    reader = RowReader(policy.causal_model, policy.reading, policy.pad_id)
    losses = []
    for part in fill_rows(blocks, tokens_per_batch):
        row = reader.row(part)
        with policy.autocast():
            logp_W, _ = token_logprobs(policy.causal_model, reader.hidden(row), row.token_W, 1.0)
        losses += [-float(one.mean()) for one in torch.split(logp_W.double(), row.lengths)]
    return np.asarray(losses)
