// Drives the library for tests: JSON lines in, JSON lines out.
//
// tokenize FILE MAX_LENGTH    lines are texts or pairs; -1 for no limit
// decode FILE                 lines are lists of tokens
// characters                  every code point with what the tokenizer takes it for
// check                       lines are any bytes; the first that is not UTF-8, or null
// predict PACKAGE             lines are requests
// tokenizers FILE             lines are what FILE is to hold
// manifests PACKAGE           lines are what its manifest.json is to hold
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "predictor/batches.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "trtbert/error.h"
#include "trtbert/predictor.h"

namespace {

using Json = nlohmann::json;

Json encoding_json(trtbert::Encoding const& encoding) {
  Json ids = Json::array(), types = Json::array(), offsets = Json::array(), words = Json::array(), tokens = Json::array(),
       sequences = Json::array();
  for (trtbert::Token const& token : encoding) {
    ids.push_back(token.id);
    types.push_back(token.type_id);
    offsets.push_back({token.offsets.begin, token.offsets.end});
    words.push_back(token.word);
    sequences.push_back(token.sequence);
    tokens.push_back(token.text);
  }
  return {{"ids", ids}, {"type_ids", types}, {"offsets", offsets}, {"words", words}, {"sequences", sequences}, {"tokens", tokens}};
}

Json error_json(trtbert::Error const& error) { return {{"kind", static_cast<int>(error.kind())}, {"error", error.what()}}; }

template <class Answer>
void answer_lines(Answer const& answer) {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(line) << '\n';
    } catch (trtbert::Error const& error) {
      std::cout << error_json(error) << '\n';
    }
  }
}

void tokenize(char const* file, long max_length) {
  auto const tokenizer = trtbert::Tokenizer::load(file, max_length < 0 ? std::nullopt : std::optional<size_t>(max_length));
  answer_lines([&](std::string const& line) {
    Json const text = Json::parse(line);
    return text.is_array() ? encoding_json(tokenizer.encode(text[0].get<std::string>(), text[1].get<std::string>()))
                           : encoding_json(tokenizer.encode(text.get<std::string>()));
  });
}

void decode(char const* file) {
  auto const tokenizer = trtbert::Tokenizer::load(file);
  answer_lines([&](std::string const& line) { return Json(tokenizer.decode(Json::parse(line).get<std::vector<std::string>>())); });
}

void characters() {
  namespace unicode = trtbert::unicode;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) {
      continue;
    }
    auto const text = [](std::u32string const& characters) {
      std::string bytes;
      for (char32_t const character : characters) {
        trtbert::append_character(bytes, character);
      }
      return bytes;
    };
    std::u32string lower, canonical, compatible;
    unicode::append_lower_case(c, lower);
    unicode::append_decomposition(c, false, canonical);
    unicode::append_decomposition(c, true, compatible);
    std::cout << Json({static_cast<uint32_t>(c), unicode::is_removed_by_bert(c), unicode::is_white_space(c), unicode::is_punctuation(c),
                       unicode::is_nonspacing_mark(c), unicode::is_combining_mark(c), unicode::is_chinese(c), unicode::combining_class(c),
                       text(lower), text(canonical), text(compatible)})
              << '\n';
  }
}

void check() {
  answer_lines([](std::string const& line) {
    auto const place = trtbert::find_invalid(line);
    return place ? Json(*place) : Json();
  });
}

void predict(char const* folder) {
  auto const predictor = trtbert::Predictor::load(folder, 1);
  answer_lines([&](std::string const& line) { return predictor.predict_json(line); });
}

void write(std::filesystem::path const& file, std::string const& text) { std::ofstream(file, std::ios::binary) << text; }

// The tokens of two texts, and what becomes of them.
std::string used(trtbert::Tokenizer const& tokenizer) {
  std::vector<int32_t> ids;
  for (auto const& encoding : {tokenizer.encode("Red  blue\u00e9 \u4e2d [MASK]ing"), tokenizer.encode("Red", "blue [SEP]")}) {
    for (trtbert::Token const& token : encoding) {
      ids.push_back(token.id);
    }
  }
  return tokenizer.decode(ids, true);
}

void tokenizers(char const* file) {
  answer_lines([&](std::string const& line) {
    write(file, line);
    return Json(used(trtbert::Tokenizer::load(file, 16)));
  });
}

// What is done with a package but to run its model: that takes seconds to load.
void manifests(std::filesystem::path const& folder) {
  answer_lines([&](std::string const& line) {
    write(folder / "manifest.json", line);
    auto const package = trtbert::Package::open(folder, false);
    size_t tokens = 0;
    for (auto const& batch : trtbert::plan_batches({1, 5, 600}, package.manifest().profiles, 1024)) {
      tokens += std::vector<int32_t>(batch.num_rows * batch.length).size();
    }
    return Json({tokens, trtbert::longest_length(package.manifest()), package.engine_path().string()});
  });
}

int run(std::string const& command, int count, char** arguments) {
  if (command == "tokenize" && count == 2) {
    tokenize(arguments[0], std::strtol(arguments[1], nullptr, 10));
  } else if (command == "decode" && count == 1) {
    decode(arguments[0]);
  } else if (command == "characters" && count == 0) {
    characters();
  } else if (command == "check" && count == 0) {
    check();
  } else if (command == "predict" && count == 1) {
    predict(arguments[0]);
  } else if (command == "tokenizers" && count == 1) {
    tokenizers(arguments[0]);
  } else if (command == "manifests" && count == 1) {
    manifests(arguments[0]);
  } else {
    std::cerr << "usage: runner_driver tokenize FILE MAX_LENGTH | decode FILE | characters | check | predict PACKAGE | tokenizers FILE | "
                 "manifests PACKAGE\n";
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    return run(argc > 1 ? argv[1] : "", argc - 2, argv + 2);
  } catch (trtbert::Error const& error) {
    std::cout << error_json(error) << '\n';
    return 3;
  }
}
