// Reads and writes traceparent; makes ids.
// SPDX-License-Identifier: Apache-2.0
#include "server/trace_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <random>

namespace thermocline {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16;
constexpr size_t kHeaderBytes = 55;  // 00-TRACE-SPAN-FLAGS

bool IsHex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsId(std::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

std::string RandomId(size_t digits) {
  std::random_device device;
  std::string id;
  do {
    id.clear();
    while (id.size() < digits) id += fmt::format("{:08x}", static_cast<uint32_t>(device()));
  } while (!IsId(id));
  return id;
}

}  // namespace

std::string TraceContext::ToHeader() const {
  return fmt::format("00-{}-{}-{:02x}", trace_id, span_id, sampled ? 1 : 0);
}

std::optional<TraceContext> ParseTraceParent(std::string_view header) {
  if (header.size() < kHeaderBytes) return std::nullopt;
  const std::string_view version = header.substr(0, 2), trace = header.substr(3, kTraceDigits);
  const std::string_view span = header.substr(36, kSpanDigits), flags = header.substr(53, 2);
  if (header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  if (!IsHex(version) || version == "ff" || !IsId(trace) || !IsId(span) || !IsHex(flags)) return std::nullopt;
  // Later versions may add fields behind a dash.
  if (header.size() > kHeaderBytes && (version == "00" || header[kHeaderBytes] != '-')) return std::nullopt;
  const bool is_odd = std::string_view("13579bdf").find(flags[1]) != std::string_view::npos;
  return TraceContext{std::string(trace), std::string(span), RandomId(kSpanDigits), is_odd};
}

TraceContext TraceOf(std::string_view header) {
  if (auto trace = ParseTraceParent(header)) return *std::move(trace);
  return {RandomId(kTraceDigits), "", RandomId(kSpanDigits), false};
}

}  // namespace thermocline
