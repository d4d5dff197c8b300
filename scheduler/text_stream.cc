// TextStream.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/text_stream.h"

namespace thermocline {

std::string TextStream::PushPrompt(std::span<const TokenId> tokens) {
  std::string text;
  for (const TokenId token : tokens) text += decoder_.Push(token);
  return text;
}

std::string TextStream::Push(TokenId token, bool may_stop) {
  std::string text = decoder_.Push(token);
  return may_stop ? matcher_.Push(text) : text;
}

std::string TextStream::Finish() {
  if (matcher_.stopped()) return "";
  std::string text = matcher_.Push(decoder_.Flush());
  return matcher_.stopped() ? text : text + matcher_.Flush();
}

}  // namespace thermocline
