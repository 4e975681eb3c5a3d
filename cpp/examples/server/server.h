// HTTP around a predictor: POST /v1/predict, GET /v2/health/live and /v2/health/ready.
#pragma once

#include <httplib.h>
#include <trtbert/predictor.h>

// `predictor` must live as long as the server.
void add_routes(httplib::Server& server, trtbert::Predictor const& predictor);
