// A completion from a server: the client's side of StreamComplete.
// SPDX-License-Identifier: Apache-2.0
#include "cli/completion_client.h"

#include <absl/strings/ascii.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "server/completion_conversion.h"
#include "server/grpc_status.h"
#include "thermocline/v1/completion.grpc.pb.h"

namespace thermocline {
namespace {

void FillSampling(const SamplingOptions& sampling, v1::SamplingOptions& message) {
  message.set_temperature(sampling.temperature);
  message.set_top_k(sampling.top_k);
  message.set_top_p(sampling.top_p);
  message.set_min_p(sampling.min_p);
  message.set_repetition_penalty(sampling.repetition_penalty);
  message.set_presence_penalty(sampling.presence_penalty);
  message.set_frequency_penalty(sampling.frequency_penalty);
  for (const auto& [token, bias] : sampling.logit_bias) {
    v1::LogitBias& entry = *message.add_logit_bias();
    entry.set_token_id(token);
    entry.set_bias(bias);
  }
  if (sampling.seed) message.set_seed(*sampling.seed);
}

void FillStopping(const StoppingOptions& stopping, v1::StoppingOptions& message) {
  if (stopping.max_tokens) message.set_max_tokens(*stopping.max_tokens);
  message.set_min_tokens(stopping.min_tokens);
  for (const std::string& stop : stopping.stop) message.add_stop(stop);
  message.set_include_stop(stopping.include_stop);
  message.set_ignore_eos(stopping.ignore_eos);
  if (stopping.time_limit) {
    const auto milliseconds = stopping.time_limit->count();
    message.mutable_time_limit()->set_seconds(milliseconds / 1000);
    message.mutable_time_limit()->set_nanos(static_cast<int32_t>(milliseconds % 1000) * 1'000'000);
  }
}

v1::StreamCompleteRequest ToMessage(const RemoteCompletion& completion) {
  const CompletionRequest& options = completion.options;
  v1::StreamCompleteRequest message;
  message.set_text(completion.prompt);
  message.set_parse_special(completion.parse_special);
  FillSampling(options.sampling, *message.mutable_sampling());
  FillStopping(options.stopping, *message.mutable_stopping());
  if (options.quality) message.set_quality(ToMessage(*options.quality));
  message.mutable_output()->set_echo(options.echo);
  message.mutable_output()->set_logprobs(options.logprobs);
  message.mutable_output()->set_top_logprobs(options.top_logprobs);
  if (completion.trace) message.mutable_output()->set_trace(true);
  return message;
}

CompletionDelta FromMessage(v1::CompletionDelta& message) {
  CompletionDelta delta;
  delta.text = std::move(*message.mutable_text());
  delta.token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  for (const v1::TokenLogprob& token : message.logprobs()) {
    TokenLogprob& logprob = delta.logprobs.emplace_back();
    logprob.id = token.token_id();
    logprob.logprob = token.logprob();
    for (const v1::TopLogprob& top : token.top()) logprob.top.emplace_back(top.token_id(), top.logprob());
  }
  return delta;
}

absl::StatusOr<FinishReason> FromMessage(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_END_TOKEN:
      return FinishReason::kEndToken;
    case v1::FINISH_REASON_STOP_STRING:
      return FinishReason::kStopString;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_TIME_LIMIT:
      return FinishReason::kTimeLimit;
    case v1::FINISH_REASON_ERROR:
      return FinishReason::kError;
    default:
      return Internal("finish reason {} is not known", static_cast<int>(reason));
  }
}

StepSums FromMessage(const v1::Sparsity& message) {
  return {
      .tokens = message.tokens(),
      .total = {.neurons = message.neurons(),
                .marked_neurons = message.marked(),
                .active_neurons = message.active(),
                .active_on_accelerators = message.active_on_accelerators(),
                .bytes = std::llround(message.bytes_per_token() * static_cast<double>(message.tokens()))}};
}

absl::StatusOr<CompletionSummary> FromMessage(const v1::CompletionSummary& message) {
  CompletionSummary summary;
  TC_ASSIGN_OR_RETURN(summary.finish_reason, FromMessage(message.finish_reason()));
  summary.matched_stop = message.matched_stop();
  summary.prompt_tokens = message.usage().prompt_tokens();
  summary.completion_tokens = message.usage().completion_tokens();
  summary.seed = message.seed();
  const std::optional<Quality> quality = ToQuality(message.quality());
  if (!quality) return Internal("quality {} is not known", static_cast<int>(message.quality()));
  summary.quality = *quality;
  summary.decode_steps = FromMessage(message.sparsity());
  const v1::Timings& timings = message.timings();
  summary.timings = {.queue_ms = timings.queue_ms(),
                     .prefill_ms = timings.prefill_ms(),
                     .time_to_first_token_ms = timings.time_to_first_token_ms(),
                     .decode_ms = timings.decode_ms(),
                     .inter_token_p50_ms = timings.inter_token_p50_ms(),
                     .inter_token_p99_ms = timings.inter_token_p99_ms()};
  return summary;
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return FailedPrecondition("{}: cannot be read", path);
  if (text.find("-----BEGIN ") == std::string::npos) return FailedPrecondition("{}: is no PEM file", path);
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(const RemoteServer& server) {
  if (server.tls_ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  TC_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(server.tls_ca));
  if (!server.tls_certificate.empty()) {
    TC_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(server.tls_certificate));
    TC_ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(server.tls_key));
  }
  return grpc::SslCredentials(options);
}

absl::StatusOr<RemoteSummary> Call(const RemoteCompletion& completion,
                                   absl::FunctionRef<void(CompletionDelta)> on_delta) {
  TC_ASSIGN_OR_RETURN(const auto credentials, CredentialsOf(completion.server));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  const auto stub = v1::CompletionService::NewStub(
      grpc::CreateCustomChannel(completion.server.address, credentials, arguments));
  grpc::ClientContext context;
  if (!completion.server.api_key.empty())
    context.AddMetadata("authorization", "Bearer " + completion.server.api_key);
  if (completion.timeout) context.set_deadline(std::chrono::system_clock::now() + *completion.timeout);

  const auto reader = stub->StreamComplete(&context, ToMessage(completion));
  std::optional<absl::StatusOr<CompletionSummary>> summary;
  std::string trace;
  for (v1::StreamCompleteResponse response; reader->Read(&response);) {
    if (response.has_delta()) on_delta(FromMessage(*response.mutable_delta()));
    if (!response.has_summary()) continue;
    summary = FromMessage(response.summary());
    trace = response.summary().trace();
  }
  TC_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  if (!summary) return Internal("the stream ended without a summary");
  TC_RETURN_IF_ERROR(summary->status());
  return RemoteSummary{**std::move(summary), std::move(trace)};
}

}  // namespace

absl::Status RemoteServer::Validate() const {
  if (tls_certificate.empty() != tls_key.empty()) {
    return FieldError(tls_key.empty() ? "--tls-key" : "--tls-cert",
                      "is missing: a certificate and its private key go together");
  }
  if (!tls_certificate.empty() && tls_ca.empty())
    return FieldError("--tls-ca", "is missing: a client's certificate is shown over TLS alone");
  // The key itself stays out of the message.
  if (!std::ranges::all_of(api_key, absl::ascii_isgraph))
    return FieldError("the key", "has characters that no key has");
  return absl::OkStatus();
}

absl::StatusOr<RemoteSummary> CompleteRemotely(const RemoteCompletion& completion,
                                               absl::FunctionRef<void(CompletionDelta)> on_delta) {
  absl::StatusOr<RemoteSummary> summary = Call(completion, on_delta);
  if (summary.ok()) return summary;
  return absl::Status(summary.status().code(),
                      fmt::format("{}: {}", completion.server.address, MessageOf(summary.status())));
}

}  // namespace thermocline
