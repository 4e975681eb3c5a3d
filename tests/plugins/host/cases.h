// The nodes that go through the whole life of a plugin.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "references.h"
#include "tensors.h"

namespace host {

using Random = std::mt19937;
using Fill = std::function<Values(Shape const& shape, Random& random)>;

enum class Kind { kFloat, kInt8, kIndex };

struct Attribute {
  std::string name;
  std::variant<float, int32_t, std::string> value;
};

// Every case runs with two sets of shapes, one after the other.
constexpr int kNumRuns = 2;

struct Input {
  std::string name;
  Kind kind;
  std::vector<Shape> shapes;  // of each run
  Fill fill;                  // INT8: what the integers are
  bool is_weight = false;     // then its extents are known while an engine is built; else only the last one is, and of an index none
  float scale = 1.0F;         // of an INT8 tensor
};

struct Case {
  std::string op;
  std::string label;
  std::vector<Attribute> attributes;
  std::vector<Input> inputs;
  std::vector<Shape> outputs;  // of each run
  std::function<Values(std::vector<Operand> const&)> reference;
  float y_scale = 0.0F;
  bool has_int8_products = false;  // a value at the edge of two integers may fall to either
};

std::vector<Case> all_cases();

}  // namespace host
