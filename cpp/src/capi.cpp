// Exceptions become a status and a message that the thread keeps.
#include <cstdlib>
#include <cstring>
#include <new>

#include "trtbert/error.h"
#include "trtbert/predictor.h"
#include "trtbert/trtbert.h"

struct trtbert_predictor {
  trtbert::Predictor predictor;
};

namespace {

thread_local std::string last_error;

trtbert_status status_of(trtbert::ErrorKind kind) {
  switch (kind) {
    case trtbert::ErrorKind::kUnsupported:
      return TRTBERT_UNSUPPORTED;
    case trtbert::ErrorKind::kMissingRuntime:
      return TRTBERT_MISSING_RUNTIME;
    default:
      return TRTBERT_INPUT;
  }
}

template <class Call>
trtbert_status guarded(Call const& call) noexcept {
  try {
    last_error.clear();
    call();
    return TRTBERT_OK;
  } catch (trtbert::Error const& error) {
    last_error = error.what();
    return status_of(error.kind());
  } catch (std::exception const& error) {
    last_error = error.what();
    return TRTBERT_INTERNAL;
  } catch (...) {
    last_error = "unknown exception";
    return TRTBERT_INTERNAL;
  }
}

template <class T>
T* allocate(size_t count) {
  auto* const memory = static_cast<T*>(std::malloc(count * sizeof(T) + 1));
  return memory == nullptr ? throw std::bad_alloc() : memory;
}

void check(void const* argument, char const* name) {
  if (argument == nullptr) {
    throw trtbert::Error(trtbert::ErrorKind::kInput, std::string("The argument ") + name + " is NULL.");
  }
}

}  // namespace

char const* trtbert_version() { return TRTBERT_VERSION; }

trtbert_status trtbert_load(char const* folder, int threads, trtbert_predictor** predictor) {
  return guarded([&] {
    check(folder, "folder");
    check(predictor, "predictor");
    *predictor = nullptr;
    if (threads < 0) {
      throw trtbert::Error(trtbert::ErrorKind::kConfig, "threads must be 0 or more, got " + std::to_string(threads) + ".");
    }
    *predictor = new trtbert_predictor{trtbert::Predictor::load(folder, threads == 0 ? std::nullopt : std::optional(threads))};
  });
}

void trtbert_free(trtbert_predictor* predictor) { delete predictor; }

char const* trtbert_task(trtbert_predictor const* predictor) {
  char const* task = nullptr;
  guarded([&] {
    check(predictor, "predictor");
    task = predictor->predictor.manifest().task.c_str();
  });
  return task;
}

trtbert_status trtbert_predict(trtbert_predictor const* predictor, char const* request, char** answer) {
  return guarded([&] {
    check(predictor, "predictor");
    check(request, "request");
    check(answer, "answer");
    std::string const text = predictor->predictor.predict_json(request);
    *answer = allocate<char>(text.size());
    std::memcpy(*answer, text.c_str(), text.size() + 1);
  });
}

void trtbert_free_text(char* text) { std::free(text); }

trtbert_status trtbert_embed(trtbert_predictor const* predictor, char const* const* texts, size_t count, float** values, size_t* width) {
  return guarded([&] {
    check(predictor, "predictor");
    check(texts, "texts");
    check(values, "values");
    check(width, "width");
    std::vector<trtbert::Text> list;
    for (size_t i = 0; i < count; ++i) {
      check(texts[i], "texts");
      list.push_back({texts[i]});
    }
    auto const embeddings = predictor->predictor.embed(list);
    *width = embeddings.empty() ? 0 : embeddings.front().size();
    *values = allocate<float>(*width * count);
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(*values + i * *width, embeddings[i].data(), *width * sizeof(float));
    }
  });
}

void trtbert_free_values(float* values) { std::free(values); }

char const* trtbert_error() { return last_error.c_str(); }
