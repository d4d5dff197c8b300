// CompletionService: the calls of thermocline.v1.CompletionService, each handed to the scheduler.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_service.h"

#include <utility>

#include "server/completion_call.h"
#include "server/completion_conversion.h"

namespace thermocline {
namespace {

v1::GetModelResponse ToMessage(const ServedModel& served, const RequestLimits& limits,
                               const Tokenizer& tokenizer) {
  v1::GetModelResponse response;
  v1::Model& model = *response.mutable_model();
  model.set_name(served.name);
  model.set_architecture(served.architecture);
  model.set_activation(served.activation);
  v1::ModelShape& shape = *model.mutable_shape();
  shape.set_n_layers(served.n_layers);
  shape.set_d_model(served.d_model);
  shape.set_d_ff(served.d_ff);
  shape.set_n_heads(served.n_heads);
  shape.set_n_kv_heads(served.n_kv_heads);
  shape.set_d_head(served.d_head);
  shape.set_gated(served.gated);
  model.set_context_length(limits.context_length);
  model.set_vocabulary_size(limits.n_vocab);
  model.set_tokenizer_kind(std::string(tokenizer.kind()));
  for (const std::string& type : served.weight_types) model.add_weight_types(type);
  model.set_weight_bytes(served.weight_bytes);
  model.set_mode(served.mode);
  for (const Quality quality : OfferedQualities(limits.predicts)) model.add_qualities(ToMessage(quality));
  return response;
}

}  // namespace

CompletionService::CompletionService(const CompletionServerParts& parts)
    : parts_(parts), model_(ToMessage(parts.model, parts.scheduler.limits(), parts.tokenizer)) {}

absl::Status CompletionService::Admit(GrpcCall& call) const {
  TC_RETURN_IF_ERROR(call.CheckKey(parts_.credentials, CredentialScope::kCompletions));
  if (const absl::Status health = parts_.scheduler.health(); !health.ok()) {
    return Unavailable("the model runner is lost: {}", MessageOf(health));
  }
  if (draining_) return Unavailable("the server is shutting down and takes no new calls");
  return absl::OkStatus();
}

template <typename Request>
absl::StatusOr<std::vector<CompletionRequest>> CompletionService::ChoicesOf(const Request& request,
                                                                            GrpcCall& call) const {
  if (!request.request_id().empty()) call.record().request_id = request.request_id();
  TC_RETURN_IF_ERROR(Admit(call));
  return ToCompletionRequests(
      request,
      {.tokenizer = parts_.tokenizer, .chat_template = parts_.chat_template, .model = parts_.model.name});
}

grpc::ServerUnaryReactor* CompletionService::Complete(grpc::CallbackServerContext* context,
                                                      const v1::CompleteRequest* request,
                                                      v1::CompleteResponse* response) {
  const auto completion = std::make_shared<UnaryCompletion>(*context, parts_, calls_, *response);
  completion->Submit(ChoicesOf(*request, completion->call()), request->output().trace());
  return completion.get();
}

grpc::ServerWriteReactor<v1::StreamCompleteResponse>* CompletionService::StreamComplete(
    grpc::CallbackServerContext* context, const v1::StreamCompleteRequest* request) {
  const auto completion = std::make_shared<StreamCompletion>(*context, parts_, calls_);
  completion->Submit(ChoicesOf(*request, completion->call()), request->output().trace());
  return completion.get();
}

template <typename Response>
grpc::ServerUnaryReactor* CompletionService::Answer(
    grpc::CallbackServerContext& context, const char* method, Response* response,
    absl::FunctionRef<absl::StatusOr<Response>()> answer) const {
  GrpcCall call(context, method, parts_.log);
  absl::Status status = Admit(call);
  if (status.ok()) {
    absl::StatusOr<Response> result = answer();
    status = result.status();
    if (result.ok()) *response = *std::move(result);
  }
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  grpc::Status finished = call.Finished(status);
  call.Log();
  reactor->Finish(std::move(finished));
  return reactor;
}

grpc::ServerUnaryReactor* CompletionService::Tokenize(grpc::CallbackServerContext* context,
                                                      const v1::TokenizeRequest* request,
                                                      v1::TokenizeResponse* response) {
  return Answer<v1::TokenizeResponse>(*context, "/thermocline.v1.CompletionService/Tokenize", response,
                                      [&] { return thermocline::Tokenize(*request, parts_.tokenizer); });
}

grpc::ServerUnaryReactor* CompletionService::Detokenize(grpc::CallbackServerContext* context,
                                                        const v1::DetokenizeRequest* request,
                                                        v1::DetokenizeResponse* response) {
  return Answer<v1::DetokenizeResponse>(*context, "/thermocline.v1.CompletionService/Detokenize", response,
                                        [&] { return thermocline::Detokenize(*request, parts_.tokenizer); });
}

grpc::ServerUnaryReactor* CompletionService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest*,
                                                      v1::GetModelResponse* response) {
  return Answer<v1::GetModelResponse>(*context, "/thermocline.v1.CompletionService/GetModel", response,
                                      [&] { return absl::StatusOr<v1::GetModelResponse>(model_); });
}

}  // namespace thermocline
