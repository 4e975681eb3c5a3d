// JSON in, JSON out. A failure is {"error": why}; what is no fault of the caller is not told to him.
#include "server.h"

#include <trtbert/error.h>

#include <iostream>
#include <nlohmann/json.hpp>

namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;  // of a request
constexpr size_t kMaxWindows = 256;            // that the contexts of a request are read in
constexpr char kJson[] = "application/json";

void answer_error(httplib::Response& response, int status, std::string const& why) {
  response.status = status;
  response.set_content(nlohmann::json{{"error", why}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), kJson);
}

bool is_callers_fault(trtbert::Error const& error) {
  return error.kind() == trtbert::ErrorKind::kInput || error.kind() == trtbert::ErrorKind::kConfig;
}

void predict(trtbert::Predictor const& predictor, httplib::Request const& request, httplib::Response& response) {
  try {
    response.set_content(predictor.predict_json(request.body, kMaxWindows), kJson);
  } catch (trtbert::Error const& error) {
    answer_error(response, is_callers_fault(error) ? 400 : 500, error.what());
  } catch (std::exception const& error) {
    std::cerr << "internal error: " << error.what() << '\n';
    answer_error(response, 500, "internal error");
  }
}

}  // namespace

void add_routes(httplib::Server& server, trtbert::Predictor const& predictor) {
  server.set_payload_max_length(kMaxBytes);
  server.set_read_timeout(10);
  server.set_keep_alive_timeout(2);
  server.set_error_handler([](httplib::Request const&, httplib::Response& response) {
    if (response.body.empty()) {
      answer_error(response, response.status, response.status == 413 ? "the request is too large" : "no such page");
    }
  });
  server.Post("/v1/predict", [&](httplib::Request const& request, httplib::Response& response) { predict(predictor, request, response); });
  for (char const* const page : {"/v2/health/live", "/v2/health/ready"}) {
    server.Get(page, [&](httplib::Request const&, httplib::Response& response) {
      response.set_content(nlohmann::json{{"task", predictor.manifest().task}}.dump(), kJson);
    });
  }
}
