#!/usr/bin/env python3
"""Reference outputs of Gemma 3 270M (GGUF, Q4_K_M), computed in float32 by the Hugging Face implementation from dequantised weights.

usage: make_gemma3_golden.py FOLDER FILE.gguf TEXT.txt OUT.json         (needs torch, transformers 5, gguf)
Independent of Thermocline: transformers expands the file's tensors through the `gguf` package and makes its tokenizer from the file's
vocabulary. Perplexity: the first 6,000 bytes of TEXT in windows of 768 tokens, longer than the sliding window of 512, each its own
context that opens with BOS; the first token of a window is not scored. Greedy continuations are 16 tokens.
SPDX-License-Identifier: Apache-2.0
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW, TEXT_BYTES, STEPS, BOS = 768, 6000, 16, 2
PROMPTS = ["The capital of France is", "  Wasser kocht bei\n\n\t100 °C, 水 bei"]


def main():
    folder, file, text, out = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt).input_ids
        start, margin, top = len(ids), 1e9, None
        for _ in range(STEPS):
            logits = model(torch.tensor([ids])).logits[0, -1]
            order = torch.argsort(-logits)[:5].tolist()
            top = top or [[i, round(logits[i].item(), 4)] for i in order]
            margin = min(margin, (logits[order[0]] - logits[order[1]]).item())
            ids.append(order[0])
        cases.append({"prompt": prompt, "prompt_ids": ids[:start], "greedy_ids": ids[start:], "text": tokenizer.decode(ids[start:]),
                      "first_top_logits": top, "least_margin": margin})
        print(cases[-1], flush=True)
    part = Path(text).read_bytes()[:TEXT_BYTES].decode(errors="ignore")
    ids = tokenizer(part, add_special_tokens=False).input_ids
    nll, scored = 0.0, 0
    for begin in range(0, len(ids), WINDOW - 1):
        window = torch.tensor([[BOS] + ids[begin:begin + WINDOW - 1]])
        logits = model(window).logits[0, :-1].double()
        nll += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
        scored += window.shape[1] - 1
        print(begin, nll / scored, flush=True)
    made = {name: version(name) for name in ("torch", "transformers", "gguf")}
    Path(out).write_text(json.dumps({"made_with": made, "text_bytes": TEXT_BYTES, "window": WINDOW, "bos": BOS, "text_tokens": len(ids),
                                     "scored_tokens": scored, "perplexity": float(torch.tensor(nll / scored).exp()), "cases": cases},
                                    indent=1, ensure_ascii=False) + "\n")


with torch.no_grad():
    main()
