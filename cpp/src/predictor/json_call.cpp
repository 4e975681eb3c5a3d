// The shapes of Python's `predict`: a text is a string, a pair a list of two strings or an object.
#include "predictor/json_call.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "json/read.h"

namespace trtbert {
namespace {

using Options = std::vector<std::pair<std::string, Field>>;

Text read_text(Field const& field) {
  Json const& json = field.json();
  if (json.is_string()) {
    return {field.text()};
  }
  if (json.is_array() && json.size() == 2) {
    return {field.items()[0].text(), field.items()[1].text()};
  }
  if (json.is_object() && json.contains("question")) {
    return {field["question"].text(), field["context"].text()};
  }
  if (json.is_object() && json.contains("text")) {
    auto const pair = field.find("text_pair");
    return {field["text"].text(), pair ? std::optional(pair->text()) : std::nullopt};
  }
  field.refuse("it must be a string, a pair of strings, {\"text\", \"text_pair\"} or {\"question\", \"context\"}");
}

// The options of a request; each must be one that the task takes.
class OptionReader {
 public:
  OptionReader(std::optional<Field> const& options, std::string const& task, std::vector<std::string> const& allowed) {
    for (auto const& [name, value] : options ? options->members() : Options()) {
      if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
        std::string list;
        for (std::string const& each : allowed) {
          list += (list.empty() ? "" : ", ") + each;
        }
        throw Error(ErrorKind::kConfig, task + " does not take the option " + name + "; it takes " + (list.empty() ? "none" : list) + ".");
      }
      values_.emplace_back(name, Field(value.json(), name, ErrorKind::kConfig));
    }
  }

  Field const* find(char const* name) const {
    auto const found = std::find_if(values_.begin(), values_.end(), [&](auto const& option) { return option.first == name; });
    return found == values_.end() ? nullptr : &found->second;
  }
  std::optional<int> number(char const* name, int least) const {
    Field const* const field = find(name);
    if (field == nullptr || field->is_null()) {
      return std::nullopt;
    }
    int64_t const value = field->integer();
    if (value < least || value > std::numeric_limits<int>::max()) {
      field->refuse("it must be a whole number of " + std::to_string(least) + " or more, got " + std::to_string(value));
    }
    return static_cast<int>(value);
  }
  bool flag(char const* name, bool otherwise) const { return find(name) == nullptr ? otherwise : find(name)->boolean(); }

 private:
  Options values_;
};

Json label_json(Label const& label) { return {{"label", label.label}, {"score", label.score}}; }

Json classify(Predictor const& predictor, std::vector<Text> const& texts, OptionReader const& options) {
  bool const is_best_alone = options.find("top_k") == nullptr;
  Json outputs = Json::array();
  for (auto const& labels : predictor.classify(texts, is_best_alone ? 1 : static_cast<size_t>(options.number("top_k", 1).value_or(0)))) {
    Json list = Json::array();
    for (Label const& label : labels) {
      list.push_back(label_json(label));
    }
    outputs.push_back(is_best_alone ? list.at(0) : list);
  }
  return outputs;
}

Json entities(Predictor const& predictor, std::vector<Text> const& texts, OptionReader const& reader) {
  EntityOptions options;
  if (Field const* const aggregation = reader.find("aggregation_strategy")) {
    options.aggregation = aggregation->text();
  }
  if (Field const* const ignored = reader.find("ignore_labels")) {
    options.ignored_labels.clear();
    for (Field const& label : ignored->items()) {
      options.ignored_labels.push_back(label.text());
    }
  }
  bool const are_tokens = options.aggregation == "none";
  Json outputs = Json::array();
  for (auto const& found : predictor.entities(texts, options)) {
    Json& list = outputs.emplace_back(Json::array());
    for (Entity const& entity : found) {
      Json& json = list.emplace_back(Json{{are_tokens ? "entity" : "entity_group", entity.label},
                                          {"score", entity.score},
                                          {"word", entity.word},
                                          {"start", entity.begin},
                                          {"end", entity.end}});
      if (are_tokens) {
        json["index"] = entity.index;
      }
    }
  }
  return outputs;
}

Json answer_json(Answer const& answer) {
  return {{"score", answer.score}, {"start", answer.begin}, {"end", answer.end}, {"answer", answer.answer}};
}

Json answers(Predictor const& predictor, std::vector<Text> const& texts, OptionReader const& reader, RequestLimits const& limits) {
  AnswerOptions options;
  options.max_windows = limits.max_windows;
  options.top_k = reader.number("top_k", 1).value_or(1);
  options.max_answer_length = reader.number("max_answer_len", 1).value_or(15);
  options.handles_impossible = reader.flag("handle_impossible_answer", false);
  options.stride = reader.number("doc_stride", 0);
  options.window = reader.number("max_seq_len", 1);
  options.aligns_to_words = reader.flag("align_to_words", true);
  Json outputs = Json::array();
  for (auto const& found : predictor.answer(texts, options)) {
    Json list = Json::array();
    for (Answer const& answer : found) {
      list.push_back(answer_json(answer));
    }
    outputs.push_back(options.top_k > 1 ? list : list.empty() ? answer_json({0, 0, 0, ""}) : list.at(0));
  }
  return outputs;
}

Json features(Predictor const& predictor, std::vector<Text> const& texts) {
  Json outputs = Json::array();
  for (Features const& found : predictor.features(texts)) {
    Json& rows = outputs.emplace_back(Json::array());
    for (size_t i = 0; i < found.length; ++i) {
      auto const begin = found.values.begin() + static_cast<std::ptrdiff_t>(i * found.width);
      rows.push_back(std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(found.width)));
    }
  }
  return outputs;
}

Json fills(Predictor const& predictor, std::vector<Text> const& texts, OptionReader const& options, RequestLimits const& limits) {
  Json outputs = Json::array();
  auto const top_k = static_cast<size_t>(options.number("top_k", 1).value_or(5));
  for (auto const& masks : predictor.fill_masks(texts, top_k, limits.max_words)) {
    Json lists = Json::array();
    for (auto const& fills : masks) {
      Json& list = lists.emplace_back(Json::array());
      for (Fill const& fill : fills) {
        list.push_back({{"score", fill.score}, {"token", fill.token}, {"token_str", fill.token_text}, {"sequence", fill.sequence}});
      }
    }
    outputs.push_back(lists.size() == 1 ? lists.at(0) : lists);
  }
  return outputs;
}

Json ranks(Predictor const& predictor, std::vector<Text> const& texts) {
  Json outputs = Json::array();
  for (auto const& scores : predictor.rank(texts)) {
    outputs.push_back(scores.size() == 1 ? Json(scores[0]) : Json(scores));
  }
  return outputs;
}

std::vector<std::string> options_of(std::string const& task) {
  if (task == "text-classification" || task == "fill-mask") {
    return {"top_k"};
  }
  if (task == "token-classification") {
    return {"aggregation_strategy", "ignore_labels"};
  }
  if (task == "question-answering") {
    return {"top_k", "max_answer_len", "handle_impossible_answer", "doc_stride", "max_seq_len", "align_to_words"};
  }
  return {};
}

Json outputs_of(Predictor const& predictor, std::vector<Text> const& texts, std::optional<Field> const& given,
                RequestLimits const& limits) {
  std::string const& task = predictor.manifest().task;
  OptionReader const options(given, task, options_of(task));
  if (task == "sentence-similarity") {
    return predictor.embed(texts);
  }
  if (task == "text-classification") {
    return classify(predictor, texts, options);
  }
  if (task == "token-classification") {
    return entities(predictor, texts, options);
  }
  if (task == "question-answering") {
    return answers(predictor, texts, options, limits);
  }
  if (task == "text-ranking") {
    return ranks(predictor, texts);
  }
  return task == "fill-mask" ? fills(predictor, texts, options, limits) : features(predictor, texts);
}

}  // namespace

std::string json_call(Predictor const& predictor, std::string_view request, RequestLimits const& limits) {
  Json json;
  try {
    json = parse_json(request);
  } catch (std::invalid_argument const& error) {
    throw Error(ErrorKind::kInput,
                std::string("The request is no JSON to be read: ") + error.what() + ". Send {\"inputs\": [...], \"options\": {...}}.");
  }
  Field const root(json, "request", ErrorKind::kInput);
  std::vector<Text> texts;
  for (Field const& item : root["inputs"].items()) {
    texts.push_back(read_text(item));
  }
  return Json{{"outputs", outputs_of(predictor, texts, root.find("options"), limits)}}.dump();
}

}  // namespace trtbert
