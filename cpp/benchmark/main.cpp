// runner_benchmark tokenizer TOKENIZER_JSON TEXTS RUNS : seconds of each run over the lines of a file, on one thread, after one that
// runner_benchmark package PACKAGE TEXTS RUNS            does not count. Beside them the number of tokens, or of texts.
#include <trtbert/error.h>
#include <trtbert/predictor.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

namespace {

std::vector<trtbert::Text> read_lines(char const* file) {
  std::ifstream stream(file);
  std::vector<trtbert::Text> lines;
  for (std::string line; std::getline(stream, line);) {
    lines.push_back({line});
  }
  return lines;
}

void time(int runs, std::function<size_t()> const& work) {
  size_t const count = work();
  for (int run = 0; run < runs; ++run) {
    auto const begin = std::chrono::steady_clock::now();
    work();
    std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << ' ' << count << '\n';
  }
}

void run(std::string const& what, char const* path, std::vector<trtbert::Text> const& texts, int runs) {
  if (what == "tokenizer") {
    auto const tokenizer = trtbert::Tokenizer::load(path);
    time(runs, [&] {
      size_t count = 0;
      for (trtbert::Text const& text : texts) {
        count += tokenizer.encode(text.text).size();
      }
      return count;
    });
  } else {
    auto const predictor = trtbert::Predictor::load(path, 1);
    time(runs, [&] { return predictor.embed(texts).size(); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: runner_benchmark tokenizer|package PATH TEXTS RUNS\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], read_lines(argv[3]), std::atoi(argv[4]));
  } catch (trtbert::Error const& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
