// The cases of each launcher. Every case prints its name and a hash of its output, which no schedule of the threads may change.
#pragma once

#include <cstdint>
#include <string>

#include "buffer.h"

// Whether the op, the first word of the name, was asked for on the command line.
bool is_asked_for(std::string const& name);

// Prints "name hash"; ends the process with status 1 where the launcher gave an error.
void report(std::string const& name, int32_t error, Tensor const& y);

// Ends the process with status 1 where the launcher gave another error than this.
void expect_error(std::string const& name, int32_t error, int32_t expected);

std::string name_of(trtbert::DType dtype);

void run_attention_cases();
void run_gelu_cases();
void run_layer_norm_cases();
void run_refusals();
