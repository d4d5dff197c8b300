// TraceContext: which distributed trace a request belongs to (W3C Trace Context, `traceparent`).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

struct TraceContext {
  std::string trace_id;   // 32 lower-case hexadecimal digits, not all 0
  std::string parent_id;  // 16; the caller's span, empty where the trace starts here
  std::string span_id;    // 16; this request's own
  bool sampled = false;

  // The header to send on: version 00, with this request's span.
  std::string ToHeader() const;
};

// nullopt for what the recommendation calls invalid; later versions are read as far as they are known.
std::optional<TraceContext> ParseTraceParent(std::string_view header);

// The caller's trace where `header` is a valid traceparent, else a new one.
TraceContext TraceOf(std::string_view header);

}  // namespace thermocline
