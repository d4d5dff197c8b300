#!/usr/bin/env python3
"""Prints the RoPE frequencies that tests/scheduler/rope_table_test.cc expects for Llama 3.1's scaling.

Written with numpy from the published formula (wavelengths above original/low_freq_factor are divided by the factor, below
original/high_freq_factor kept, between them blended), vectorised rather than by cases. numpy 1.24.
SPDX-License-Identifier: Apache-2.0
"""
import numpy as np

d, theta, factor, low, high, original = 128, 500000.0, 8.0, 1.0, 4.0, 8192
inv = 1.0 / theta ** (np.arange(0, d, 2) / d)
smooth = np.clip((original * inv / (2 * np.pi) - low) / (high - low), 0.0, 1.0)
scaled = inv * ((1 - smooth) / factor + smooth)
for i in (0, 10, 28, 30, 32, 34, 36, 40, 63):
    print(f"      {{{i}, {scaled[i]:.12g}}},")
