// JSON in, JSON out. A failure is {"error": why}; what is no fault of the caller is not told to him.
#include "server.h"

#include <trtbert/error.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxBytes = size_t{4} << 20;  // of a body
constexpr std::chrono::seconds kBodyTime{20};  // that a body may take to come
constexpr size_t kThreads = 32;                // a client that is slow to send keeps one
constexpr trtbert::RequestLimits kLimits{/*max_windows=*/256, /*max_words=*/4096};
constexpr char kPredict[] = "/v1/predict";
constexpr char kJson[] = "application/json";

void answer_error(httplib::Response& response, int status, std::string const& why) {
  response.status = status;
  response.set_content(nlohmann::json{{"error", why}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), kJson);
}

// What a status means that cpp-httplib, or a function below, has set without a word.
std::string why(int status) {
  switch (status) {
    case 400:
      return "this is no HTTP request that can be read, or its body broke off";
    case 404:
      return "no such page";
    case 408:
      return "the body must come within " + std::to_string(kBodyTime.count()) + " seconds";
    case 411:
      return "the length of the body is missing; send Content-Length, or Transfer-Encoding: chunked";
    case 413:
      return "the body is too large; it may have " + std::to_string(kMaxBytes) + " bytes";
    case 414:
      return "the address is too long";
    case 415:
      return "the body must be plain JSON, with no Content-Encoding and not as multipart/form-data";
    case 416:
      return "the Range header cannot be read; leave it out";
    default:
      return "internal error";
  }
}

// The status that a request is refused with unread: the body of one that is not for read_body, cpp-httplib would read without limit.
std::optional<int> refusal_of(httplib::Request const& request) {
  if (request.method == "GET" || request.method == "HEAD") {
    return std::nullopt;  // Their bodies are not read.
  }
  if (request.method != "POST" || request.path != kPredict) {
    return 404;
  }
  if (request.is_multipart_form_data()) {
    return 415;
  }
  bool const has_length = request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
  return has_length ? std::nullopt : std::optional(411);  // To a client that ends its body by closing, cpp-httplib does not answer.
}

// The body; nothing, and the status of the response, where it is refused. One that is too large is read to its end, none of it kept:
// many clients look for an answer only when they have sent all.
std::optional<std::string> read_body(httplib::ContentReader const& read, httplib::Response& response) {
  auto const end = Clock::now() + kBodyTime;
  std::string body;
  bool is_too_large = false;
  bool is_late = false;
  bool const is_whole = read([&](char const* bytes, size_t size) {
    is_too_large = is_too_large || size > kMaxBytes - body.size();
    if (!is_too_large) {
      body.append(bytes, size);
    }
    is_late = Clock::now() > end;
    return !is_late;
  });
  if (is_too_large) {
    response.status = 413;
  } else if (is_late) {
    response.status = 408;
  }
  return is_whole && !is_too_large ? std::optional(std::move(body)) : std::nullopt;
}

bool is_callers_fault(trtbert::Error const& error) {
  return error.kind() == trtbert::ErrorKind::kInput || error.kind() == trtbert::ErrorKind::kConfig;
}

void predict(trtbert::Predictor const& predictor, std::string const& request, httplib::Response& response) {
  try {
    response.set_content(predictor.predict_json(request, kLimits), kJson);
  } catch (trtbert::Error const& error) {
    answer_error(response, is_callers_fault(error) ? 400 : 500, error.what());
  } catch (std::exception const& error) {
    std::cerr << "internal error: " << error.what() << '\n';
    answer_error(response, 500, "internal error");
  }
}

}  // namespace

void add_routes(httplib::Server& server, trtbert::Predictor const& predictor) {
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_read_timeout(10);
  server.set_keep_alive_timeout(2);    // until the first byte
  server.set_keep_alive_max_count(1);  // Else the rest of a body that was refused would be taken for the next request.
  server.set_pre_routing_handler([](httplib::Request const& request, httplib::Response& response) {
    if (auto const refusal = refusal_of(request)) {
      response.status = *refusal;
      return httplib::Server::HandlerResponse::Handled;
    }
    return httplib::Server::HandlerResponse::Unhandled;
  });
  server.set_error_handler([](httplib::Request const&, httplib::Response& response) {
    if (response.body.empty()) {
      answer_error(response, response.status, why(response.status));
    }
  });
  server.Post(kPredict, [&](httplib::Request const&, httplib::Response& response, httplib::ContentReader const& read) {
    if (auto const body = read_body(read, response)) {
      predict(predictor, *body, response);
    }
  });
  for (char const* const page : {"/v2/health/live", "/v2/health/ready"}) {
    server.Get(page, [&](httplib::Request const&, httplib::Response& response) {
      response.set_content(nlohmann::json{{"task", predictor.manifest().task}}.dump(), kJson);
    });
  }
}
