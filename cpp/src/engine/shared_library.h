// A library that is looked for when it is needed: what is built against its headers runs, up to there, without it.
#pragma once

#include <string>
#include <vector>

namespace trtbert {

class SharedLibrary {
 public:
  // The first of `names` that can be loaded; throws Error (kMissingRuntime), which says what it is, where none can. It stays loaded.
  SharedLibrary(std::vector<std::string> const& names, std::string const& what);

  template <class Function>
  Function* function(char const* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(char const* name) const;

  void* handle_ = nullptr;
  std::string what_;
};

}  // namespace trtbert
