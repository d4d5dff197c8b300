// The routes of the HTTP surface.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_service.h"

#include <absl/strings/ascii.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/printable.h"
#include "model/strict_json.h"
#include "server/dashboard_page.h"
#include "server/json_fields.h"
#include "server/openai_completion.h"
#include "server/openai_response.h"
#include "server/prompt_text.h"
#include "server/scheduler_figures.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// "fp_" and 64 bits of FNV-1a over what decides about answers besides the request.
std::string Fingerprint(const ServedModel& model) {
  uint64_t hash = 0xcbf29ce484222325;
  const std::string described =
      fmt::format("{}|{}|{}|{}|{}|{}", model.name, model.architecture, model.mode, model.weight_bytes,
                  fmt::join(model.weight_types, ","), fmt::join(model.hot_neurons, ","));
  for (const unsigned char byte : described) hash = (hash ^ byte) * 0x100000001b3;
  return fmt::format("fp_{:016x}", hash);
}

// A path's %41 and such; what is no such escape stays.
std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

bool IsJson(std::string_view content_type) {
  const absl::string_view type(content_type.data(), std::min(content_type.find(';'), content_type.size()));
  return absl::AsciiStrToLower(absl::StripAsciiWhitespace(type)) == "application/json";
}

HttpResponse JsonResponse(const Json& body, int status = 200) {
  return {.status = status, .body = ToText(body)};
}

absl::Status ModelNotFound(const std::string& asked, const std::string& served) {
  absl::Status status = NotFound("the model \"{}\" is not served here, \"{}\" is", Printable(asked), served);
  return WithErrorCode(std::move(status), "model_not_found");
}

}  // namespace

const OpenAiService::Route OpenAiService::kRoutes[] = {
    {"/v1/completions", true, CredentialScope::kCompletions, &OpenAiService::Completions},
    {"/v1/chat/completions", true, CredentialScope::kCompletions, &OpenAiService::ChatCompletions},
    {"/v1/models", false, CredentialScope::kCompletions, &OpenAiService::Models},
    {"/v1/models/", false, CredentialScope::kCompletions, &OpenAiService::Model},
    {"/tokenize", true, CredentialScope::kCompletions, &OpenAiService::Tokenize},
    {"/detokenize", true, CredentialScope::kCompletions, &OpenAiService::Detokenize},
    {"/thermocline/live", false, CredentialScope::kAdmin, &OpenAiService::Live},
    {"/health", false, std::nullopt, &OpenAiService::Health},
    {"/metrics", false, std::nullopt, &OpenAiService::Metrics},
    {"/", false, std::nullopt, &OpenAiService::Dashboard},
};

OpenAiService::OpenAiService(const OpenAiParts& parts, CorsPolicy cors)
    : parts_(parts),
      context_{parts.tokenizer, parts.chat_template, parts.scheduler.limits()},
      cors_(std::move(cors)),
      started_(absl::ToUnixSeconds(absl::Now())),
      fingerprint_(Fingerprint(parts.model)),
      live_(parts.scheduler, parts.model, parts.activity) {}

void OpenAiService::RefuseNewCalls() {
  draining_ = true;
  live_.Stop();
}

// ---- Routing ----

const OpenAiService::Route* OpenAiService::RouteOf(std::string_view path) {
  for (const Route& route : kRoutes) {
    const bool is_folder = route.path.size() > 1 && route.path.ends_with('/');
    if (is_folder ? path.starts_with(route.path) && path != route.path : path == route.path) return &route;
  }
  return nullptr;
}

void OpenAiService::Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
  const auto call = std::make_shared<HttpCall>(std::move(request), std::move(exchange), cors_, parts_.log);
  const Route* const route = RouteOf(call->request().path);
  if (route == nullptr) {
    return call->Fail(MakeHttpError(404, fmt::format("there is no {}", Printable(call->request().path))));
  }
  const std::string& method = call->request().method;
  const std::string methods = route->post ? "POST" : "GET, HEAD";
  if (auto preflight = cors_.AnswerPreflight(call->request(), methods)) {
    return call->Respond(*std::move(preflight));
  }
  if (route->post ? method != "POST" : method != "GET" && method != "HEAD") {
    HttpResponse response =
        ToResponse(MakeHttpError(405, fmt::format("{} takes {}, not {}", Printable(call->request().path),
                                                  methods, Printable(method))));
    response.headers.emplace_back("Allow", methods);
    return call->Respond(std::move(response));
  }
  if (const absl::Status admitted = Admit(*route, *call); !admitted.ok()) return call->Fail(admitted);
  (this->*route->handle)(call);
}

void OpenAiService::Refuse(HttpRequest request, HttpError error, std::shared_ptr<HttpExchange> exchange) {
  const auto call = std::make_shared<HttpCall>(std::move(request), std::move(exchange), cors_, parts_.log);
  call->Fail(error);
}

absl::Status OpenAiService::Admit(const Route& route, HttpCall& call) const {
  if (!route.scope) return absl::OkStatus();
  if (parts_.credentials != nullptr) {
    TC_ASSIGN_OR_RETURN(call.record().client, parts_.credentials->CheckAuthorization(
                                                  *route.scope, call.request().Header("authorization")));
  }
  if (draining_) return Unavailable("the server is shutting down and takes no new calls");
  return absl::OkStatus();
}

bool OpenAiService::ReadBody(HttpCall& call, Json& body) const {
  const std::string_view encoding = call.request().Header("content-encoding");
  if (!encoding.empty() && encoding != "identity") {
    call.Fail(MakeHttpError(415, "bodies must come without a Content-Encoding"));
    return false;
  }
  if (!IsJson(call.request().Header("content-type"))) {
    call.Fail(MakeHttpError(415, "the Content-Type must be application/json"));
    return false;
  }
  absl::StatusOr<Json> parsed = ParseStrictJson(call.request().body, "body");
  const absl::Status status = parsed.ok() ? CheckModel(*parsed) : parsed.status();
  if (!status.ok()) {
    call.Fail(status);
    return false;
  }
  body = *std::move(parsed);
  return true;
}

// The server has one model: who does not name one means that.
absl::Status OpenAiService::CheckModel(const Json& body) const {
  std::string asked = parts_.model.name;
  TC_RETURN_IF_ERROR(JsonFields(body).Read("model", asked));
  if (asked == parts_.model.name) return absl::OkStatus();
  return WithField(ModelNotFound(asked, parts_.model.name), "model");
}

// ---- Handlers ----

void OpenAiService::Complete(OpenAiEndpoint endpoint, const Call& call) {
  Json body;
  if (!ReadBody(*call, body)) return parts_.metrics.ObserveRefusal(call->record().status.code());
  absl::StatusOr<OpenAiRequest> request = ParseOpenAiRequest(endpoint, body, call->id(), context_);
  if (!request.ok()) {
    parts_.metrics.ObserveRefusal(request.status().code());
    return call->Fail(request.status());
  }
  const char* const prefix = endpoint == OpenAiEndpoint::kChat ? "chatcmpl-" : "cmpl-";
  OpenAiCompletion::Start(call, *std::move(request),
                          {.endpoint = endpoint,
                           .id = prefix + call->id(),
                           .model = parts_.model.name,
                           .system_fingerprint = fingerprint_,
                           .created = absl::ToUnixSeconds(absl::Now())},
                          parts_, calls_);
}

Json OpenAiService::DescribeModel() const {
  return {{"id", parts_.model.name},
          {"object", "model"},
          {"created", started_},
          {"owned_by", "thermocline"},
          {"max_model_len", context_.limits.context_length}};
}

void OpenAiService::Models(const Call& call) {
  call->Respond(JsonResponse({{"object", "list"}, {"data", Json::array({DescribeModel()})}}));
}

void OpenAiService::Model(const Call& call) {
  const std::string_view path = call->request().path;
  const std::string asked = PercentDecoded(path.substr(path.rfind('/') + 1));
  if (asked == parts_.model.name) return call->Respond(JsonResponse(DescribeModel()));
  call->Fail(WithField(ModelNotFound(asked, parts_.model.name), "model"));
}

void OpenAiService::Tokenize(const Call& call) {
  Json body;
  if (!ReadBody(*call, body)) return;
  const JsonFields fields(body);
  const auto tokenize = [&]() -> absl::StatusOr<std::vector<TokenId>> {
    if (fields.Has("messages")) return EncodeMessages(body, context_);
    if (!fields.Has("prompt")) return FieldError("prompt", "is missing");
    std::string prompt;
    Tokenizer::EncodeOptions options;
    TC_RETURN_IF_ERROR(fields.Read("prompt", prompt));
    TC_RETURN_IF_ERROR(fields.Read("add_special_tokens", options.add_bos));
    TC_RETURN_IF_ERROR(fields.Read("parse_special", options.parse_special));
    auto tokens = parts_.tokenizer.Encode(prompt, options);
    if (!tokens.ok()) return FieldError("prompt", MessageOf(tokens.status()));
    return tokens;
  };
  const absl::StatusOr<std::vector<TokenId>> tokens = tokenize();
  if (!tokens.ok()) return call->Fail(tokens.status());
  call->Respond(JsonResponse(
      {{"count", tokens->size()}, {"max_model_len", context_.limits.context_length}, {"tokens", *tokens}}));
}

void OpenAiService::Detokenize(const Call& call) {
  Json body;
  if (!ReadBody(*call, body)) return;
  const auto detokenize = [&]() -> absl::StatusOr<std::string> {
    const Json* const value = JsonFields(body).Find("tokens");
    if (value == nullptr) return FieldError("tokens", "is missing");
    TC_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, ParseTokenIds("tokens", *value));
    return DecodeToText("tokens", tokens, parts_.tokenizer);
  };
  const absl::StatusOr<std::string> text = detokenize();
  if (!text.ok()) return call->Fail(text.status());
  call->Respond(JsonResponse({{"prompt", *text}}));
}

void OpenAiService::Health(const Call& call) {
  const absl::Status health = parts_.scheduler.health();
  if (!health.ok()) {
    return call->Respond(JsonResponse({{"status", "failed"}, {"message", MessageOf(health)}}, 503));
  }
  if (draining_) return call->Respond(JsonResponse({{"status", "draining"}}, 503));
  call->Respond(JsonResponse({{"status", "ok"}}));
}

void OpenAiService::Metrics(const Call& call) {
  const bool ready = !draining_ && parts_.scheduler.health().ok();
  call->Respond(
      {.content_type = std::string(ServerMetrics::kContentType),
       .body = parts_.metrics.Exposition(FiguresOf(parts_.scheduler.stats(), parts_.model.devices, ready))});
}

void OpenAiService::Dashboard(const Call& call) { call->Respond(DashboardResponse()); }

}  // namespace thermocline
