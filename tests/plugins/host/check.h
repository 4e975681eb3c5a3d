// How a check fails: the host stops and names it.
#pragma once

#include <stdexcept>
#include <string>

namespace host {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check(bool is_true, std::string const& what) {
  if (!is_true) {
    throw Failure(what);
  }
}

}  // namespace host
