#!/usr/bin/env python3
"""Reference outputs of SmolLM2-135M-Instruct (GGUF, Q4_1), computed in float32 with numpy from weights that the `gguf` package expanded.

usage: make_smollm2_golden.py MODEL.gguf TEXT.txt OUT.json
Independent of Thermocline: tokens come from the `tokenizers` package over the file's vocabulary, tensors from gguf.quants.
Perplexity: the first 20,000 bytes of TEXT in windows of 512 tokens, each its own context, no BOS (the model adds none); the first
token of a window is not scored. Greedy continuations are up to 32 tokens or an end token.
SPDX-License-Identifier: Apache-2.0
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

WINDOW, TEXT_BYTES, STEPS = 512, 20000, 32
PROMPTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
]
END = 2  # <|im_end|>


class Reference:
    def __init__(self, reader):
        field = lambda key: reader.fields["llama." + key].contents()
        self.layers, self.heads, self.kv = field("block_count"), field("attention.head_count"), field("attention.head_count_kv")
        self.eps, self.base = field("attention.layer_norm_rms_epsilon"), field("rope.freq_base")
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1]) for t in reader.tensors}

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def forward(self, ids):
        w, n = self.w, len(ids)
        x = w["token_embd.weight"][ids]
        d = x.shape[1] // self.heads
        angle = np.arange(n)[:, None] / self.base ** (np.arange(0, d, 2) / d)
        cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]

        def rotate(t):  # GGUF stores LLaMA heads with interleaved pairs
            even, odd = t[..., 0::2], t[..., 1::2]
            return np.stack((even * cos - odd * sin, even * sin + odd * cos), -1).reshape(t.shape)

        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for i in range(self.layers):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q = rotate((h @ w[p + "attn_q.weight"].T).reshape(n, self.heads, d))
            k = rotate((h @ w[p + "attn_k.weight"].T).reshape(n, self.kv, d))
            v = (h @ w[p + "attn_v.weight"].T).reshape(n, self.kv, d)
            k, v = (np.repeat(t, self.heads // self.kv, axis=1) for t in (k, v))
            s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d) + mask
            a = np.exp(s - s.max(-1, keepdims=True))
            a /= a.sum(-1, keepdims=True)
            x = x + np.einsum("hqk,khd->qhd", a, v).reshape(n, -1) @ w[p + "attn_output.weight"].T
            h = self.norm(x, p + "ffn_norm.weight")
            g = h @ w[p + "ffn_gate.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T
        return self.norm(x, "output_norm.weight") @ w["token_embd.weight"].T


def tokenizer_of(reader):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    reference, tokenizer = Reference(reader), tokenizer_of(reader)
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        start, margin, top = len(ids), 1e9, None
        for _ in range(STEPS):
            logits = reference.forward(np.array(ids))[-1]
            order = np.argsort(-logits)[:5]
            top = top or [[int(i), round(float(logits[i]), 4)] for i in order]
            margin = min(margin, float(logits[order[0]] - logits[order[1]]))
            ids.append(int(order[0]))
            if ids[-1] == END:
                break
        cases.append({"prompt": prompt, "prompt_ids": ids[:start], "greedy_ids": ids[start:], "text": tokenizer.decode(ids[start:]),
                      "first_top_logits": top, "least_margin": margin})
        print(cases[-1]["text"], margin, flush=True)
    text = Path(sys.argv[2]).read_bytes()[:TEXT_BYTES].decode(errors="ignore")
    ids = np.array(tokenizer.encode(text).ids)
    nll, scored = 0.0, 0
    for begin in range(0, len(ids), WINDOW):
        window = ids[begin:begin + WINDOW]
        logits = reference.forward(window).astype(np.float64)
        lse = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        nll += float((lse[:-1] - logits[np.arange(len(window) - 1), window[1:]]).sum())
        scored += len(window) - 1
        print(begin, np.exp(nll / scored), flush=True)
    made = {name: version(name) for name in ("numpy", "gguf", "tokenizers")}
    Path(sys.argv[3]).write_text(json.dumps({"made_with": made, "text_bytes": TEXT_BYTES, "window": WINDOW, "text_tokens": len(ids),
                                             "scored_tokens": scored, "perplexity": float(np.exp(nll / scored)), "cases": cases},
                                            indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
